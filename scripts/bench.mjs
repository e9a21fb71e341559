// `npm run bench [layer|sample]`: bundles the benchmarks and runs them.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";

const outfile = "out/bench.mjs";
const banner = {
  js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);',
};
await build({
  entryPoints: ["test/bench/main.ts"],
  bundle: true,
  platform: "node",
  target: "node20",
  format: "esm",
  outfile,
  external: ["onnxruntime-node", "esbuild", "pg", "redis", "msgpackr-extract"],
  logLevel: "warning",
  banner,
});
const { status } = spawnSync(process.execPath, [outfile, ...process.argv.slice(2)], { stdio: "inherit" });
process.exit(status ?? 1);
