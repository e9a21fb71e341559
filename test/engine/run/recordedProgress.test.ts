/**
 * How well a run's clock does on what a real run of the sample reported, on a machine that other work
 * slowed down meanwhile. UPDATE_PROGRESS=1 records it anew.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { startRun } from "../../../src/engine/run/startRun";
import { recipeSchema } from "../../../src/protocol/recipe";
import { temporaryFolder } from "../../support/temporaryFolder";
import { recorded, replayed, type Recording } from "./progressRecording";

const sample = path.resolve("media/sample");
const { signal } = new AbortController();
const recordings: Record<string, (folder: string) => Promise<unknown>> = {
  sample: async (folder) => {
    const { machinery } = await import("../../../src/engine/pipeline");
    const recipe = recipeSchema.parse(JSON.parse(readFileSync(path.join(sample, "sample.reroute.json"), "utf8")));
    return startRun(machinery, { runDirectory: path.join(folder, "run"), recipe, baseFolder: folder }, { signal });
  },
};
const fileOf = (name: string) => path.join("test/fixtures/progress", `${name}.json`);

describe.each(Object.keys(recordings))("the recorded %s", (name) => {
  it.runIf(process.env["UPDATE_PROGRESS"])("is recorded", async () => {
    const folder = temporaryFolder();
    await cp(sample, folder, { recursive: true });
    const recording = await recorded(() => recordings[name]!(folder));
    writeFileSync(fileOf(name), `${JSON.stringify(recording)}\n`);
  });

  const reports = () => {
    const recording = JSON.parse(readFileSync(fileOf(name), "utf8")) as Recording;
    return { recording, reports: replayed(recording) };
  };

  it("has a share that never falls, from nothing to all", () => {
    const shares = reports().reports.map(({ share }) => share);
    expect(shares).toEqual([...shares].sort((a, b) => a - b));
    expect(shares[0]).toBeLessThan(0.05);
    expect(shares.at(-1)).toBeGreaterThan(0.95);
    expect(shares.at(-1)).toBeLessThanOrEqual(1);
  });

  it("says at half way how long it takes, within 30 %", () => {
    const { recording, reports: all } = reports();
    const half = all.find(({ at }) => at >= recording.seconds / 2)!;
    expect(half.left! / (recording.seconds - half.at)).toBeGreaterThan(0.7);
    expect(half.left! / (recording.seconds - half.at)).toBeLessThan(1.3);
    expect(Math.abs(half.share - 0.5)).toBeLessThan(0.15);
  });
});
