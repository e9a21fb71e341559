import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { runCli } from "../../src/cli/program";
import { comparisonFile } from "../../src/protocol/compare";
import { evaluationFile } from "../../src/protocol/evaluation";
import { makeCheckpoint } from "../bench/makeCheckpoint";

/** The command on a real model, if a tiny one: one method of each paradigm, and one that cannot work. */
let cwd = "";
const methods = ["reap", "hc-smoe", "svd", "mobe"] as const;
beforeAll(async () => {
  cwd = await mkdtemp(path.join(tmpdir(), "compare-cli-"));
  await makeCheckpoint({
    directory: path.join(cwd, "teacher"),
    family: "qwen3_moe",
    shape: {
      ...{ hiddenSize: 32, numLayers: 2, numExperts: 8, numExpertsPerToken: 2, moeIntermediateSize: 24 },
      ...{ vocabSize: 2048, numHeads: 2, numKeyValueHeads: 1, headDim: 16, maxPositionEmbeddings: 128 },
    },
    deviation: 0.3,
    tokenizerFrom: "media/sample/checkpoint",
  });
  const sample = path.resolve("media/sample");
  const comparison = {
    schemaVersion: 1,
    teacher: "teacher",
    data: {
      ...{ calibration: path.join(sample, "calibration.jsonl"), evaluation: path.join(sample, "evaluation.jsonl") },
      ...{ sequences: 8, evaluationSequences: 8, sequenceLength: 32 },
    },
    grid: { methods, keep: [0.5] },
    methodOptions: { mobe: { magic: 1 } },
    calibrate: { batch: 4, learningRate: 1e-3, heldOut: 0.25 },
    threads: 1,
  };
  await writeFile(path.join(cwd, "tiny.compare.reroute.json"), JSON.stringify(comparison));
});
afterAll(() => rm(cwd, { recursive: true }));

async function compare(...options: string[]): Promise<{ code: number; out: string; err: string }> {
  const result = { code: -1, out: "", err: "" };
  result.code = await runCli(["compare", "tiny.compare.reroute.json", ...options], {
    out: (t) => (result.out += t),
    err: (t) => (result.err += t),
    isTerminal: false,
    columns: 80,
    signal: new AbortController().signal,
    cwd,
  });
  return result;
}

it("says beforehand what each cell takes and which would be refused", async () => {
  const { code, out } = await compare("--dry-run");
  expect(code).toBe(0);
  for (const method of methods) expect(out).toMatch(new RegExp(`^${method}-0.5 `, "m"));
  expect(out).toMatch(/^mobe-0.5 .*would be refused: arguments\/invalid$/m);
  expect(out).toMatch(/Time of the whole comparison/);
  expect(out.match(/^(Calibration|Evaluation) text, the first 2 of 8 sequences of .*jsonl:$/gm)).toHaveLength(2);
});

it("compares, records what fails, and has nothing left to do afterwards", async () => {
  const { code, out, err } = await compare("--json");
  expect(code, err).toBe(0);
  const directory = path.join(cwd, ".reroute/runs/tiny");
  const result = comparisonFile.parse(JSON.parse(out));
  expect(result).toEqual(
    comparisonFile.parse(JSON.parse(await readFile(path.join(directory, "comparison.json"), "utf8"))),
  );
  expect(result.cells.map(({ method, state, error }) => [method, state, error?.code])).toEqual([
    ["reap", "done", undefined],
    ["hc-smoe", "done", undefined],
    ["svd", "done", undefined],
    ["mobe", "failed", "arguments/invalid"],
  ]);
  for (const { id, before, after, gain } of result.cells.slice(0, 3)) {
    expect(before!.klToTeacher!.mean, id).toBeGreaterThan(0);
    expect(after!.parametersTotal).toBeLessThanOrEqual(result.teacher!.parametersTotal);
    expect(gain).toBeCloseTo(before!.klToTeacher!.mean - after!.klToTeacher!.mean, 9);
    // The cell's own file says the same of the teacher, although it was measured once.
    const file = path.join(directory, "cells", id, "evaluation.json");
    const evaluation = evaluationFile.parse(JSON.parse(await readFile(file, "utf8")));
    expect(evaluation.teacher!.cost.tokensPerSecond).toBe(result.teacher!.tokensPerSecond);
  }
  expect(err).toMatch(/calibrate: reap-0.5: Running the teacher/);
  expect(err).toMatch(/cell 1 of 4: reap-0.5(, about .* left)?\n/);
  expect(err).not.toMatch(/calibrate: hc-smoe-0.5: Running the teacher/);
  expect(err).not.toMatch(/hc-smoe-0.5: Profiling/);

  const again = await compare();
  expect(again.code, again.err).toBe(0);
  expect(again.err).not.toMatch(/Training|Profiling|Evaluating/);
  expect(again.out).toMatch(/^teacher +– /m);
  // The text is one document.
  expect(again.out).toMatch(/^reap +0.5 .* too little text/m);
  expect(again.out).toContain("without an interval");
  expect(again.out).toMatch(/comparison\.html/);
  const forecast = await compare("--dry-run");
  expect(forecast.out.match(/would be refused/g), "finished cells are not refused").toHaveLength(1);
});
