import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeAll, expect, it, vi } from "vitest";
import { ModelExecutor } from "../../../../src/engine/execution/modelExecutor";
import { machinery } from "../../../../src/engine/pipeline";
import { writeComparisonReport } from "../../../../src/engine/report/comparisonReport";
import { cellsOf } from "../../../../src/engine/run/compare/cells";
import { startComparison, type ComparisonHooks } from "../../../../src/engine/run/compare/startComparison";
import { startRun } from "../../../../src/engine/run/startRun";
import { comparisonRecipeSchema } from "../../../../src/protocol/compare";
import type { EvaluationFile } from "../../../../src/protocol/evaluation";
import { TinyRun } from "../../../faults/tinyRun";
import { temporaryFolder } from "../../../support/temporaryFolder";

let folder = "";
beforeAll(async () => {
  folder = temporaryFolder();
  await TinyRun.makeParent(folder);
});
afterEach(() => vi.restoreAllMocks());

const recipe = comparisonRecipeSchema.parse({
  schemaVersion: 1,
  teacher: "teacher",
  data: {
    ...{ calibration: "calibration.jsonl", evaluation: "evaluation.jsonl" },
    ...{ sequences: 4, evaluationSequences: 6, sequenceLength: 24 },
  },
  grid: { methods: ["frequency", "random", "aimer"], keep: [0.5] },
  threads: 1,
});

const signal = new AbortController().signal;
function compare(directory: string, hooks: Partial<ComparisonHooks> = {}) {
  const request = { directory, recipe, baseFolder: folder, name: "grid" };
  return startComparison(machinery, writeComparisonReport, request, { signal, ...hooks });
}

/** Passes of the teacher over the held-out text that began with its embedding, by the number of held-out tokens. */
function teacherPasses(): () => number {
  const forward = vi.spyOn(ModelExecutor.prototype, "forward");
  return () =>
    (forward.mock.contexts as ModelExecutor[]).filter(
      ({ options }, i) =>
        options.checkpoint.directory === path.join(folder, "teacher") &&
        forward.mock.calls[i]![0].ids.length === 6 * 24 &&
        forward.mock.calls[i]![1]?.start === undefined,
    ).length;
}

/** evaluation.json of a run, without what is measured and where it lies. */
function evaluationOf(runDirectory: string): string {
  const text = readFileSync(path.join(runDirectory, "evaluation.json"), "utf8").replaceAll(runDirectory, "");
  const evaluation = JSON.parse(text) as EvaluationFile;
  for (const part of [evaluation.teacher, evaluation.before])
    Object.assign(part!.cost, { tokensPerSecond: 0, tokensPerSecondQuartiles: null, peakMemoryBytes: 0 });
  return JSON.stringify(evaluation);
}

it("a grid runs its teacher over the held-out text once, and each cell has the bytes of a run of its own", async () => {
  const passes = teacherPasses();
  const directory = path.join(folder, "grid");
  const { cells } = await compare(directory);
  expect(cells.map(({ state }) => state)).toEqual(["done", "done", "done"]);
  expect(passes()).toBe(1);
  expect(readdirSync(path.join(directory, "shared")).filter((name) => name.startsWith("evaluation-"))).toEqual([]);

  for (const [i, cell] of cellsOf(recipe, directory, "grid").entries()) {
    // In a folder of its own: beside others it would take over their profile.
    const runDirectory = path.join(folder, `alone-${i}`, "run");
    const output = path.join(runDirectory, "checkpoint");
    await startRun(machinery, { runDirectory, recipe: { ...cell.recipe, output }, baseFolder: folder }, { signal });
    expect(evaluationOf(cell.runDirectory)).toBe(evaluationOf(runDirectory));
  }
  expect(passes()).toBe(4);
});

it("also where it was stopped between two cells", async () => {
  const passes = teacherPasses();
  const directory = path.join(folder, "stopped");
  const abort = new AbortController();
  const onCell: ComparisonHooks["onCell"] = (_cell, number) => {
    if (number === 2) abort.abort();
  };
  await expect(compare(directory, { onCell, signal: abort.signal })).rejects.toMatchObject({ code: "cancelled" });
  expect(passes()).toBe(1);
  await compare(directory);
  expect(passes()).toBe(1);
  const cells = (name: string) => cellsOf(recipe, path.join(folder, name), "grid");
  for (const [i, { runDirectory }] of cells("stopped").entries())
    expect(evaluationOf(runDirectory)).toBe(evaluationOf(cells("grid")[i]!.runDirectory));
});
