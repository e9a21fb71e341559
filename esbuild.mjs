// Builds every program of the project into dist/: the extension, the engine, the command line, the pages.
import { context, build } from "esbuild";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";

const watch = process.argv.includes("--watch");

/** zod carries its messages in fifty languages, which are half of the extension's code and are never shown. */
const zodInEnglishOnly = {
  name: "zod-in-english-only",
  setup({ onLoad }) {
    onLoad({ filter: /zod[\\/]v4[\\/]locales[\\/]index\.js$/ }, () => ({
      contents: 'export { default as en } from "./en.js";',
    }));
  },
};

/** Code that runs in Node: onnxruntime-node carries native binaries and `vscode` is given by the host. */
const node = {
  bundle: true,
  platform: "node",
  target: "node20",
  format: "cjs",
  outdir: "dist",
  external: ["vscode", "onnxruntime-node"],
  // Libraries that are modules ask for a `require` of their own, by the place of their file.
  define: { "import.meta.url": "__filename" },
  sourcemap: "linked",
  minifySyntax: true,
  minifyWhitespace: true,
  plugins: [zodInEnglishOnly],
  logLevel: "warning",
};

const nodePrograms = Object.fromEntries(
  [
    ["extension", "src/extension/extension.ts"],
    ["engine", "src/engine/main.ts"],
    ["cli", "src/cli/main.ts"],
  ].filter(([, entry]) => existsSync(entry)),
);

const pages = readdirSync("webview", { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && existsSync(`webview/${entry.name}/main.ts`))
  .map(({ name }) => [`webview/${name}`, `webview/${name}/main.ts`]);

const builds = [
  { ...node, entryPoints: nodePrograms },
  {
    bundle: true,
    platform: "browser",
    target: "es2022",
    format: "iife",
    outdir: "dist",
    minify: !watch,
    sourcemap: watch ? "inline" : false,
    entryPoints: Object.fromEntries(pages),
    loader: { ".css": "text" },
    logLevel: "warning",
  },
].filter(({ entryPoints }) => Object.keys(entryPoints).length > 0);

if (watch) for (const options of builds) await (await context(options)).watch();
else {
  const results = await Promise.all(builds.map((options) => build({ ...options, metafile: true })));
  // What is in the bundles, for the bill of materials (scripts/sbom.mjs).
  const outputs = Object.assign({}, ...results.map(({ metafile }) => metafile.outputs));
  mkdirSync("out", { recursive: true });
  writeFileSync("out/metafile.json", JSON.stringify({ outputs }));
}
