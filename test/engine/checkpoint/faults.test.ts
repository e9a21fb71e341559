import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { writeError } from "../../../src/engine/checkpoint/atomicFile";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { createRandom } from "../../../src/engine/tensor/random";
import { errorCodeOf } from "../../../src/protocol/errors";
import { makeCheckpoint } from "../../bench/makeCheckpoint";
import { spreadSteps, stepKiller } from "../../faults/killAtStep";
import { temporaryFolder } from "../../support/temporaryFolder";
import { bundleChild } from "./bundleChild";

let child = "";
let source = "";

beforeAll(async () => {
  const folder = temporaryFolder();
  child = await bundleChild(folder);
  source = path.join(folder, "source");
  const shape = {
    hiddenSize: 256,
    numLayers: 2,
    numExperts: 32,
    moeIntermediateSize: 256,
    vocabSize: 4000,
    numHeads: 4,
    headDim: 64,
  };
  await makeCheckpoint({ directory: source, family: "qwen3_moe", shape, maxShardBytes: 12e6 });
});

const contents = (folder: string) =>
  Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((name) => [name, readFileSync(path.join(folder, name))]),
  );

describe.skipIf(process.platform === "win32")("a writer that fails", () => {
  it.each([1000, 12_000])("at a file-size limit of %i KiB says so and leaves nothing behind", (limit) => {
    const out = path.join(temporaryFolder(), "out");
    const command = `ulimit -f ${limit}; exec "${process.execPath}" "${child}" write "${source}" "${out}"`;
    const { stdout } = spawnSync("bash", ["-c", command], { encoding: "utf8" });
    const result = JSON.parse(stdout.trim().split("\n").at(-1)!) as { code?: string; message?: string; bytes?: number };
    if (limit === 12_000) expect(result.bytes).toBeGreaterThan(24e6);
    else {
      expect(result.code).toBe("output/write-failed");
      expect(result.message).toContain("ulimit -f");
      expect(result.message).toContain("model-00001-of-");
      expect(existsSync(out)).toBe(false);
    }
  });

  it("by SIGKILL before 8 of its steps at the disk leaves no valid checkpoint, and the same run writes it anew", async () => {
    const killer = stepKiller();
    const write = (folder: string, step: string) =>
      spawnSync(process.execPath, ["--require", killer.preload, child, "write", source, folder], {
        encoding: "utf8",
        env: { ...process.env, [killer.variable]: step },
      });
    const clean = path.join(temporaryFolder(), "out");
    expect(write(clean, "").stdout).toContain('"bytes"');
    expect(killer.steps()).toBeGreaterThan(8);
    const random = createRandom(11);
    const out = path.join(temporaryFolder(), "out");
    let unfinished = 0;
    for (const step of spreadSteps(8, killer.steps(), (n) => random.below(n))) {
      expect(write(out, String(step)).signal).toBe("SIGKILL");
      if (!existsSync(out) || readdirSync(out).length === 0) continue;
      const state = await openCheckpoint(out).then(() => "complete", errorCodeOf);
      if (state === "complete") rmSync(out, { recursive: true });
      else {
        expect(state).toBe("checkpoint/malformed");
        unfinished++;
      }
    }
    expect(unfinished).toBeGreaterThan(2);
    expect(write(out, "").stdout).toContain('"bytes"');
    expect(Object.keys(contents(out))).toEqual(Object.keys(contents(clean)));
    for (const [name, bytes] of Object.entries(contents(clean))) {
      expect(bytes.equals(contents(out)[name]!), name).toBe(true);
    }
  });
});

describe("an error of the operating system while writing", () => {
  const rows: [string, string][] = [
    ["ENOSPC", "disk is full"],
    ["EDQUOT", "quota"],
    ["EFBIG", "ulimit -f"],
    ["EROFS", "read-only"],
    ["EACCES", "permission denied"],
    ["EIO", "check the disk"],
    ["EWHATEVER", "something odd"],
  ];
  it.each(rows)("%s becomes output/write-failed with advice", (code, mention) => {
    const cause = Object.assign(new Error("something odd"), { code });
    const error = writeError(cause, "/out/model.safetensors");
    expect([error.code, error.cause]).toEqual(["output/write-failed", cause]);
    expect(error.message).toContain("/out/model.safetensors");
    expect(error.message).toContain(mention);
  });
});
