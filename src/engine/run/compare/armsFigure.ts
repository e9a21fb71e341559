import path from "node:path";
import type { ComparisonFile } from "../../../protocol/compare";
import type { ArmsFigure, DistillationArm } from "../../../protocol/distillation";
import type { EvaluationFile, ModelEvaluation } from "../../../protocol/evaluation";
import { runFiles, type RunFile } from "../../../protocol/run";
import { resolveHubPath } from "../../checkpoint/hubCache";
import { bootstrapDifference } from "../../evaluation/bootstrap";
import { bootstrapSeeds } from "../../evaluation/bootstrapSeeds";
import { mostActiveExperts } from "../../model/activeExperts";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import { updateDistillation } from "../folder/distillationFile";
import { readMetrics } from "../folder/metricsFile";
import { readRun } from "../folder/runFolder";
import { ModelCache } from "../modelCache";
import { readEvaluation } from "../stages/evaluate";
import { meanAndDeviation } from "../scoreResponses";
import { cellsOf } from "./cells";
import { readScores } from "./scoreCells";

/** A finished cell of an arm. */
interface ArmRun {
  seed: number;
  run: RunFile;
  after: ModelEvaluation;
  file: EvaluationFile;
  scores: Awaited<ReturnType<typeof readScores>>;
  teacherSeconds: number;
  writingSeconds: number;
  seconds: number;
}

/**
 * What a comparison's arms came to, from the files of their cells: means over seeds, and each arm's KL minus the baseline's,
 * on the same sequences and the seeds that both have. Arms without a finished cell are left out; null where there are none.
 */
export async function figureOfArms(
  directory: string,
  { recipe, name, cells }: ComparisonFile,
  teacher: ModelDescription,
): Promise<ArmsFigure | null> {
  const done = new Set(cells.filter(({ state }) => state === "done").map(({ id }) => id));
  const runs = new Map<string, ArmRun[]>();
  for (const { id, arm, runDirectory } of cellsOf(recipe, directory, name)) {
    const found = arm !== undefined && done.has(id) ? await readArmRun(runDirectory) : null;
    if (found) runs.set(arm!, [...(runs.get(arm!) ?? []), found]);
  }
  const [first] = [...runs.values()];
  if (!first) return null;
  const baseline = recipe.grid.baseline ?? recipe.grid.arms![0]!.name;
  const before = first[0]!.file.before?.uncertainty;
  return {
    baseline,
    before: before?.klToTeacher ? { klToTeacher: before.klToTeacher, nllPerToken: before.nllPerToken } : null,
    arms: [...runs].map(([arm, own]) =>
      describeArm(arm, own, arm === baseline ? undefined : runs.get(baseline), teacher),
    ),
  };
}

/** Writes it into the comparison's distillation.json, where the grid has arms. */
export async function updateArms(directory: string, comparison: ComparisonFile): Promise<void> {
  const { grid, teacher } = comparison.recipe;
  if (!grid.arms || comparison.cells.every(({ state }) => state !== "done")) return;
  const folder = await resolveHubPath(path.resolve(comparison.baseFolder, teacher), teacher);
  const { description } = await new ModelCache().model(folder);
  await updateDistillation(directory, { arms: await figureOfArms(directory, comparison, description) });
}

async function readArmRun(runDirectory: string): Promise<ArmRun | null> {
  const run = await readRun(runDirectory);
  const file = await readEvaluation(path.join(runDirectory, runFiles.evaluation));
  if (!file?.after?.perSequence.kl || !file.data.perSequence) return null;
  const updates = (await readMetrics(path.join(runDirectory, runFiles.metrics))).flatMap((line) =>
    line.kind === "update" ? [line] : [],
  );
  const sum = (of: (line: (typeof updates)[number]) => number | undefined) =>
    updates.reduce((total, line) => total + (of(line) ?? 0), 0);
  return {
    ...{ seed: run.recipe.seed, run, after: file.after, file },
    scores: await readScores(runDirectory),
    teacherSeconds: sum(({ teacherSeconds }) => teacherSeconds),
    writingSeconds: sum(({ writingSeconds }) => writingSeconds),
    seconds: run.stages.find(({ id }) => id === "calibrate")!.seconds,
  };
}

function describeArm(
  name: string,
  runs: readonly ArmRun[],
  baseline: readonly ArmRun[] | undefined,
  teacher: ModelDescription,
): DistillationArm {
  const { calibrate, seed } = runs[0]!.run.recipe;
  const { divergence = "forward", teacherRouting: routing = { kind: "own" as const }, onPolicy } = calibrate!;
  const own = moeLayers(teacher)[0]!.moe.numExpertsPerToken;
  const most = mostActiveExperts(teacher)!;
  const usual = routing.kind === "augment" ? most - 1 : most;
  const over = (of: (run: ArmRun) => number) => runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
  const estimate = (sums: number[][]) => {
    const { mean, interval95 } = bootstrapSeeds({ sums, ...unitsOf(runs[0]!) }, { seed });
    return { mean, halfWidth95: (interval95[1] - interval95[0]) / 2 };
  };
  return {
    ...{ name, divergence, routing: routing.kind },
    active: routing.kind === "own" ? own : (routing.active ?? usual),
    draws: routing.kind === "augment" ? routing.draws : 1,
    onPolicy: onPolicy?.share ?? 0,
    seeds: runs.map((run) => run.seed),
    klToTeacher: estimate(runs.map(klSums)),
    nllPerToken: estimate(runs.map((run) => sumsOf(run, run.after.perSequence.nll))),
    difference: baseline === undefined ? null : differenceTo(runs, baseline, seed),
    ...rougeOf(runs),
    ...{
      teacherSeconds: over((run) => run.teacherSeconds),
      writingSeconds: over((run) => run.writingSeconds),
      seconds: over((run) => run.seconds),
    },
  };
}

/** Over all seeds of students and of sampling; nothing unless every student was scored. */
function rougeOf(runs: readonly ArmRun[]): Pick<DistillationArm, "rougeL"> {
  const scores = runs.flatMap((run) => run.scores?.bySeed ?? []);
  if (runs.some((run) => run.scores === null)) return {};
  const responses = runs.reduce((sum, { scores: of }) => sum + of!.prompts * of!.bySeed.length, 0);
  return { rougeL: { ...meanAndDeviation(scores.map(({ rougeL }) => rougeL)), responses } };
}

/** Over the seeds that both arms have; null without one. */
function differenceTo(
  runs: readonly ArmRun[],
  baseline: readonly ArmRun[],
  seed: number,
): DistillationArm["difference"] {
  const pairs = runs.flatMap((run) => {
    const other = baseline.find((one) => one.seed === run.seed);
    return other ? [{ own: klSums(run), other: klSums(other) }] : [];
  });
  const [first] = pairs;
  if (!first) return null;
  const { tokens, units } = unitsOf(runs[0]!);
  if (pairs.length === 1) return bootstrapDifference(first.own, { sums: first.other, tokens, units }, { seed });
  const sums = pairs.map(({ own, other }) => own.map((value, s) => value - other[s]!));
  return bootstrapSeeds({ sums, tokens, units }, { seed });
}

function klSums(run: ArmRun): number[] {
  return sumsOf(run, run.after.perSequence.kl!);
}

/** Means of sequences as sums. */
function sumsOf(run: ArmRun, means: readonly number[]): number[] {
  const { tokens } = unitsOf(run);
  return means.map((mean, s) => mean * tokens[s]!);
}

function unitsOf({ file }: ArmRun) {
  return file.data.perSequence!;
}
