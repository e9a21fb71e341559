// How code that runs in Node is bundled: what ships, and what tests start as a process, are the same bytes.

/** zod carries its messages in fifty languages, which are half of the extension's code and are never shown. */
const zodInEnglishOnly = {
  name: "zod-in-english-only",
  setup({ onLoad }) {
    onLoad({ filter: /zod[\\/]v4[\\/]locales[\\/]index\.js$/ }, () => ({
      contents: 'export { default as en } from "./en.js";',
    }));
  },
};

/**
 * onnxruntime-node carries native binaries and `vscode` is given by the host. BullMQ can do without the other three: clients of
 * databases that are not used, and a native form of what it has in JavaScript.
 */
export const nodeBundle = {
  bundle: true,
  platform: "node",
  target: "node20",
  format: "cjs",
  external: ["vscode", "onnxruntime-node", "pg", "redis", "msgpackr-extract"],
  // Libraries that are modules ask for a `require` of their own, by the place of their file.
  define: { "import.meta.url": "__filename" },
  plugins: [zodInEnglishOnly],
  logLevel: "warning",
};
