// Builds every program of the project into dist/: the extension, the engine, the command line, the pages.
import { context, build } from "esbuild";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { nodeBundle, queueClients } from "./scripts/nodeBundle.mjs";
import { pageBundle } from "./scripts/pageBundle.mjs";

const watch = process.argv.includes("--watch");
const at = process.argv.indexOf("--components");
const library = at === -1 ? process.env.REROUTE_COMPONENTS : process.argv[at + 1];

/** Code that runs in Node, small. */
const node = { ...nodeBundle, outdir: "dist", sourcemap: "linked", minifySyntax: true, minifyWhitespace: true };

const nodePrograms = Object.fromEntries(
  [
    ["extension", "src/extension/extension.ts"],
    ["engine", "src/engine/main.ts"],
    ["cli", "src/cli/main.ts"],
    [queueClients.name, queueClients.entry],
  ].filter(([, entry]) => existsSync(entry)),
);

const pages = readdirSync("webview", { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && existsSync(`webview/${entry.name}/main.ts`))
  .map(({ name }) => [`webview/${name}`, `webview/${name}/main.ts`]);

const builds = [
  { ...node, entryPoints: nodePrograms },
  {
    ...pageBundle(library),
    outdir: "dist",
    minify: !watch,
    sourcemap: watch ? "inline" : false,
    entryPoints: Object.fromEntries(pages),
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
