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

/** The queue's clients as a file beside the bundle, which nothing reads before a queue is named. */
export const queueClients = { entry: "src/engine/run/queue/clients.ts", name: "queue" };

/** @param file what that file is called beside the bundle */
export const queueApart = (file) => ({
  name: "queue-apart",
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/clients$/ }, ({ importer, kind }) =>
      kind === "dynamic-import" && /run[\\/]queue[\\/]/.test(importer) ? { path: `./${file}`, external: true } : null,
    );
  },
});

/**
 * onnxruntime-node carries native binaries and `vscode` is given by the host. BullMQ and pg can do without the others: another
 * client of Redis, and native forms of what they have in JavaScript.
 */
export const nodeBundle = {
  bundle: true,
  platform: "node",
  target: "node20",
  format: "cjs",
  external: ["vscode", "onnxruntime-node", "redis", "msgpackr-extract", "pg-native", "pg-cloudflare"],
  // Libraries that are modules ask for a `require` of their own, by the place of their file.
  define: { "import.meta.url": "__filename" },
  plugins: [zodInEnglishOnly, queueApart(`${queueClients.name}.js`)],
  logLevel: "warning",
};
