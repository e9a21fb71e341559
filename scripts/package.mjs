// npm run package [-- --target linux-x64]: the VSIX of one platform, with only that platform's onnxruntime binaries.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { readmePage } from "./readmePage.mjs";
import { writeSbom } from "./sbom.mjs";

/** VS Code's name of a platform -> folder of its binaries; null: onnxruntime-node has none, so inspection only. */
const targets = {
  "linux-x64": "linux/x64",
  "linux-arm64": "linux/arm64",
  "win32-x64": "win32/x64",
  "win32-arm64": "win32/arm64",
  "darwin-arm64": "darwin/arm64",
  "darwin-x64": null,
  "linux-armhf": null,
  "alpine-x64": null,
  "alpine-arm64": null,
};

const { values } = parseArgs({ options: { target: { type: "string" }, out: { type: "string" } } });
const target = values.target ?? `${process.platform}-${process.arch}`;
if (!Object.hasOwn(targets, target)) {
  console.error(`package: target "${target}" is unknown; known are ${Object.keys(targets).join(", ")}`);
  process.exit(2);
}

const run = (script, args) =>
  execFileSync(process.execPath, [script, ...args], { stdio: ["inherit", "inherit", "inherit"] });
run("esbuild.mjs", []);

const folder = targets[target];
const natives = folder === null ? null : `node_modules/onnxruntime-node/bin/napi-v6/${folder}`;
const numPackages = writeSbom(natives);
const ignoreFile = path.join("out", `vscodeignore-${target}`);
mkdirSync("out", { recursive: true });
const readme = path.join("out", "README.md");
writeFileSync(readme, readmePage(readFileSync("README.md", "utf8")));
const binaries = natives === null ? "" : `!${natives}/**\n`;
writeFileSync(ignoreFile, readFileSync(".vscodeignore", "utf8") + binaries);
if (folder === null)
  console.warn(
    `package: onnxruntime-node has no binaries for ${target}; this package inspects, but does not calibrate`,
  );

const { version } = JSON.parse(readFileSync("package.json", "utf8"));
const out = values.out ?? path.join("out", `reroute-${version}-${target}.vsix`);
run("node_modules/@vscode/vsce/vsce", [
  "package",
  ...["--target", target],
  ...["--ignoreFile", ignoreFile],
  ...["--out", out],
  ...["--readme-path", readme],
  "--no-rewrite-relative-links",
  "--allow-missing-repository",
]);
console.log(
  `${out}: ${(statSync(out).size / 2 ** 20).toFixed(1)} MiB, ${numPackages} packages in its bill of materials`,
);
