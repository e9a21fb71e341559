import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { findingsIn } from "../../scripts/audit.mjs";
import { makeNotices, makeSbom, npmSbom, shippedFolders, type Sbom } from "../../scripts/sbom.mjs";
import { temporaryFolder } from "../support/temporaryFolder";

let folders: string[] = [];
let sbom: Sbom;

beforeAll(() => {
  if (!existsSync("out/metafile.json")) execFileSync(process.execPath, ["esbuild.mjs"]);
  folders = shippedFolders(JSON.parse(readFileSync("out/metafile.json", "utf8")) as never);
  const natives = readdirSync("scripts").map((name) => path.posix.join("scripts", name));
  sbom = makeSbom(folders, npmSbom(), natives);
});

const manifest = (folder: string) =>
  JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8")) as { name: string; version: string };

describe("the bill of materials", () => {
  it("has every package that an import of the sources reaches, and no tool", () => {
    const names = new Set(sbom.components.map(({ name }) => name));
    for (const name of ["chart.js", "zod", "commander", "protobufjs", "vscode-jsonrpc", "@huggingface/tokenizers"])
      expect(names).toContain(name);
    for (const name of ["onnxruntime-node", "onnxruntime-common"]) expect(names).toContain(name);
    for (const name of ["esbuild", "vitest", "typescript", "eslint", "playwright-core"])
      expect(names).not.toContain(name);
  });

  it("says of each package its version, source, hash and licence", () => {
    const libraries = sbom.components.filter(({ type }) => type === "library");
    expect(libraries).toHaveLength(folders.length);
    const versions = folders.map((folder) => `${manifest(folder).name}@${manifest(folder).version}`);
    expect(libraries.map((component) => component["bom-ref"]).sort()).toEqual(versions.sort());
    for (const { name, purl, hashes, licenses } of libraries) {
      expect(purl, name).toMatch(/^pkg:npm\//);
      expect(hashes?.[0], name).toEqual({
        alg: "SHA-512",
        content: expect.stringMatching(/^[0-9a-f]{128}$/) as string,
      });
      expect(licenses?.[0]?.license.id, name).toBeTruthy();
    }
  });

  it("refers to nothing that it does not list, and names native files by their SHA-256", () => {
    const refs = new Set([...sbom.components, sbom.metadata.component].map((component) => component["bom-ref"]));
    for (const { ref, dependsOn = [] } of sbom.dependencies)
      for (const each of [ref, ...dependsOn]) expect(refs).toContain(each);
    const file = sbom.components.find(({ name }) => name === "scripts/sbom.mjs");
    expect(file?.hashes?.[0]?.content).toMatch(/^[0-9a-f]{64}$/);
  });
});

describe("licences", () => {
  it("of all packages are there in full", () => {
    const notices = makeNotices(folders);
    for (const folder of folders) expect(notices).toContain(`${manifest(folder).name} ${manifest(folder).version} (`);
    expect(notices.match(/Copyright|Apache License/gi)!.length).toBeGreaterThanOrEqual(folders.length);
  });

  it.each([
    ["GPL-3.0", "the licence GPL-3.0, which may not ship"],
    ["MIT", "has no file with its licence"],
  ])("of %s without a text stop the packaging", (license, problem) => {
    const folder = path.join(temporaryFolder(), "package");
    mkdirSync(folder);
    writeFileSync(path.join(folder, "package.json"), JSON.stringify({ name: "x", version: "1.0.0", license }));
    expect(() => makeNotices([folder])).toThrow(problem);
  });
});

it("the audit counts what ships, directly or through another package, and nothing else", () => {
  const nodes = (name: string) => [`node_modules/${name}`];
  const vulnerabilities = {
    zod: { name: "zod", severity: "high", nodes: nodes("zod"), via: [{ title: "slow pattern" }] },
    vitest: { name: "vitest", severity: "critical", nodes: nodes("vitest"), via: [{ title: "tool" }] },
    long: { name: "long", severity: "low", nodes: nodes("long"), via: ["protobufjs"] },
  };
  expect(findingsIn({ vulnerabilities }, folders)).toEqual([
    "zod (high): slow pattern",
    "long (low): through protobufjs",
  ]);
});
