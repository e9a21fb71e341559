// What ships: dist/sbom.cdx.json (CycloneDX 1.5) and dist/THIRD-PARTY-NOTICES.txt, made from what the bundler really put into
// dist/ and from the packages that ship as they are. `node esbuild.mjs` goes first: it writes out/metafile.json.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";

/** Licences that may ship, all of them permissive. */
const allowed = new Set(["MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "0BSD"]);

/** Packages beside the bundles: the native runtime cannot be bundled. */
const unbundled = ["node_modules/onnxruntime-node", "node_modules/onnxruntime-common"];

/** Folders of the packages of which at least one byte is in an output of the metafile, and of those that ship whole. */
export function shippedFolders(metafile) {
  const bundled = Object.values(metafile.outputs).flatMap(({ inputs }) =>
    Object.entries(inputs)
      .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
      .map(([file]) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1])
      .filter((folder) => folder !== undefined),
  );
  return [...new Set([...bundled, ...unbundled])].sort();
}

/** The bill of materials of some package folders; `natives` are files of the runtime, listed with their hashes. */
export function makeSbom(folders, npmSbom, natives = []) {
  const known = new Map(npmSbom.components.map((component) => [component["bom-ref"], component]));
  const refs = folders.map((folder) => {
    const { name, version } = manifest(folder);
    return `${name}@${version}`;
  });
  const components = refs.map((ref) => {
    const component = known.get(ref);
    if (!component) throw new Error(`npm sbom knows nothing of ${ref}, which ships; run npm ci`);
    return { ...component, scope: "required" };
  });
  const { component, tools } = npmSbom.metadata;
  const ships = (ref) => refs.includes(ref);
  return {
    $schema: npmSbom.$schema,
    bomFormat: "CycloneDX",
    specVersion: npmSbom.specVersion,
    version: 1,
    // No time and no serial number: the same sources give the same file.
    metadata: { tools, component: { ...component, type: "application", name: "reroute", description: "Reroute" } },
    components: [...components, ...natives.map(nativeComponent)],
    dependencies: [
      { ref: component["bom-ref"], dependsOn: refs },
      ...npmSbom.dependencies
        .filter(({ ref }) => ships(ref))
        .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter(ships) })),
    ],
  };
}

/** Every shipped package with its licence and the text of it. */
export function makeNotices(folders) {
  const parts = folders.map((folder) => {
    const { name, version, license } = manifest(folder);
    if (!allowed.has(license)) throw new Error(`${name} ${version} has the licence ${license}, which may not ship`);
    const texts = readdirSync(folder)
      .filter((file) => /^(licen[cs]e|notice|thirdpartynotices)/i.test(file))
      .sort()
      .map((file) => readFileSync(path.join(folder, file), "utf8").trim());
    return [`${name} ${version} (${license})`, ...(texts.length > 0 ? texts : [textOf(folder)])].join("\n\n");
  });
  const opening =
    "Reroute is released under the MIT licence (LICENSE). It contains the following packages, each under its own licence.";
  const rule = `\n\n${"-".repeat(100)}\n\n`;
  return `${[opening, ...parts].join(rule)}\n`;
}

/** Microsoft's packages that name their licence, MIT, without holding its text. */
const withoutText = /^(onnxruntime-(node|common)|@microsoft\/fast-(element|foundation|web-utilities))$/;

/** The text under a README's heading, where a package has it nowhere else. */
function textInReadme(folder) {
  const readme = path.join(folder, "README.md");
  const text = existsSync(readme) ? readFileSync(readme, "utf8") : "";
  const section = /^#+ *licen[cs]e *$([^]*?)(?=^#|(?![^]))/im.exec(text)?.[1].trim();
  return section?.includes("Permission is hereby granted") ? section : null;
}

function textOf(folder) {
  const found = textInReadme(folder);
  if (found !== null) return found;
  const { name, version, license } = manifest(folder);
  if (!withoutText.test(name) || license !== "MIT") throw new Error(`${name} has no file with its licence`);
  const mit = readFileSync("LICENSE", "utf8")
    .replace(/Copyright .*/, "Copyright (c) Microsoft Corporation")
    .trim();
  if (!name.startsWith("onnxruntime-")) return mit;
  const notices = `https://github.com/microsoft/onnxruntime/blob/v${version}/ThirdPartyNotices.txt`;
  return `${mit}\n\nThird-party notices of the native runtime: ${notices}`;
}

function nativeComponent(file) {
  const content = createHash("sha256").update(readFileSync(file)).digest("hex");
  return { "bom-ref": file, type: "file", name: file, hashes: [{ alg: "SHA-256", content }] };
}

function manifest(folder) {
  return JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8"));
}

/** Everything installed, as npm lists it: versions, sources, integrity hashes, licences. */
export function npmSbom() {
  const npm = process.env.npm_execpath ? [process.execPath, [process.env.npm_execpath]] : ["npm", []];
  const text = execFileSync(npm[0], [...npm[1], "sbom", "--sbom-format", "cyclonedx"], {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    stdio: ["ignore", "pipe", "pipe"],
    shell: process.platform === "win32" && npm[0] === "npm",
  });
  return JSON.parse(text);
}

/** @param binaries folder of the runtime's native files, null where none ship */
export function writeSbom(binaries) {
  const metafile = "out/metafile.json";
  if (!existsSync(metafile)) throw new Error(`${metafile} is missing; run node esbuild.mjs first`);
  const folders = shippedFolders(JSON.parse(readFileSync(metafile, "utf8")));
  const natives =
    binaries === null
      ? []
      : readdirSync(binaries)
          .map((name) => path.posix.join(binaries, name))
          .filter((file) => statSync(file).isFile())
          .sort();
  writeFileSync("dist/sbom.cdx.json", `${JSON.stringify(makeSbom(folders, npmSbom(), natives), null, 2)}\n`);
  writeFileSync("dist/THIRD-PARTY-NOTICES.txt", makeNotices(folders));
  return folders.length;
}
