import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { appendLine, writeFileAtomically } from "../../../src/engine/checkpoint/atomicFile";
import { freeDiskBytes } from "../../../src/engine/checkpoint/diskSpace";
import { hashFile } from "../../../src/engine/checkpoint/fingerprint";
import { temporaryFolder } from "../../support/temporaryFolder";
import { expectError } from "./fixtures";

describe("writeFileAtomically", () => {
  it("writes text, bytes and parts, replacing the old file", async () => {
    const file = path.join(temporaryFolder(), "run.json");
    await writeFileAtomically(file, "ä first and longer");
    expect(readFileSync(file, "utf8")).toBe("ä first and longer");
    await writeFileAtomically(file, Uint8Array.of(104, 105));
    expect(readFileSync(file, "utf8")).toBe("hi");
    await writeFileAtomically(
      file,
      (async function* () {
        yield Buffer.from("one ");
        yield Buffer.from("two");
      })(),
    );
    expect(readFileSync(file, "utf8")).toBe("one two");
  });

  it("keeps the old file when the new one cannot be finished", async () => {
    const folder = temporaryFolder();
    const file = path.join(folder, "run.json");
    writeFileSync(file, "old");
    const failing = (function* () {
      yield Buffer.from("new");
      throw Object.assign(new Error("no space"), { code: "ENOSPC" });
    })();
    await expectError(() => writeFileAtomically(file, failing), "output/write-failed", "run.json", "disk is full");
    expect(readdirSync(folder)).toEqual(["run.json"]);
    expect(readFileSync(file, "utf8")).toBe("old");
  });

  it("overwrites the temporary file of a killed writer", async () => {
    const folder = temporaryFolder();
    writeFileSync(path.join(folder, ".run.json.reroute-partial"), "a cut file that is longer than the new one");
    await writeFileAtomically(path.join(folder, "run.json"), "new");
    expect(readdirSync(folder)).toEqual(["run.json"]);
    expect(readFileSync(path.join(folder, "run.json"), "utf8")).toBe("new");
  });
});

describe("appendLine", () => {
  it("appends, and ends a line that a crash left open", async () => {
    const file = path.join(temporaryFolder(), "metrics.jsonl");
    await appendLine(file, '{"step":1}');
    await appendLine(file, '{"step":2}');
    writeFileSync(file, `${readFileSync(file, "utf8")}{"st`);
    await appendLine(file, '{"step":3}');
    expect(readFileSync(file, "utf8")).toBe('{"step":1}\n{"step":2}\n{"st\n{"step":3}\n');
  });

  it("fails with a typed error", async () => {
    const folder = temporaryFolder();
    mkdirSync(path.join(folder, "log"));
    await expectError(() => appendLine(path.join(folder, "log"), "x"), "output/write-failed", "a folder has this name");
  });
});

it("freeDiskBytes looks at the nearest folder that exists", async () => {
  const folder = temporaryFolder();
  const free = await freeDiskBytes(folder);
  expect(free).toBeGreaterThan(0);
  expect(Math.abs((await freeDiskBytes(path.join(folder, "not/yet/there"))) - free)).toBeLessThan(1e9);
});

it("hashFile is SHA-256", async () => {
  const file = path.join(temporaryFolder(), "abc");
  writeFileSync(file, "abc");
  // FIPS 180-2, appendix B.1.
  expect(await hashFile(file)).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  await expectError(() => hashFile(`${file}.gone`), "checkpoint/not-found", "gone");
});
