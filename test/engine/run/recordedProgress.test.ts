/**
 * How well the clock does on what a real run of the sample reported, and a grid of two methods by two ratios, on a machine
 * that other work slowed down meanwhile. UPDATE_PROGRESS=1 records them anew.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { startComparison } from "../../../src/engine/run/compare/startComparison";
import { startRun } from "../../../src/engine/run/startRun";
import { comparisonRecipeSchema } from "../../../src/protocol/compare";
import { recipeSchema } from "../../../src/protocol/recipe";
import { temporaryFolder } from "../../support/temporaryFolder";
import { recorded, replayed, type Recording } from "./progressRecording";

const sample = path.resolve("media/sample");
const grid = {
  ...{ schemaVersion: 1, name: "grid", teacher: "checkpoint" },
  data: {
    ...{ calibration: "calibration.jsonl", evaluation: "evaluation.jsonl" },
    ...{ sequences: 128, sequenceLength: 128, evaluationSequences: 24 },
  },
  grid: { methods: ["reap", "frequency"], keep: [0.375, 0.625] },
  calibrate: { learningRate: 3e-3, epochs: 2, evaluateEvery: 8 },
};
const { signal } = new AbortController();
const recordings: Record<string, (folder: string) => Promise<unknown>> = {
  sample: async (folder) => {
    const { machinery } = await import("../../../src/engine/pipeline");
    const recipe = recipeSchema.parse(JSON.parse(readFileSync(path.join(sample, "sample.reroute.json"), "utf8")));
    return startRun(machinery, { runDirectory: path.join(folder, "run"), recipe, baseFolder: folder }, { signal });
  },
  grid: async (folder) => {
    const { machinery } = await import("../../../src/engine/pipeline");
    const recipe = comparisonRecipeSchema.parse(grid);
    const request = { directory: path.join(folder, "grid"), recipe, baseFolder: folder, name: "grid" };
    return startComparison(machinery, async () => undefined, request, { signal });
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
