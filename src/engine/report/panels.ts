import path from "node:path";
import type {
  CalibrationPanelData,
  DistillationPanelData,
  DivergencePanelData,
  RoutingPanelData,
  RunSummary,
  SimilarityMetric,
  SimilarityPanelData,
  TradeOffPanelData,
  TradeOffPoint,
} from "../../protocol/panels";
import type { CompressionPlan } from "../../protocol/plan";
import type { RunFile } from "../../protocol/run";
import type { CompressOptions } from "../../protocol/recipe";
import type { EvaluationFile, ModelEvaluation } from "../../protocol/evaluation";
import { verdictWords } from "../../protocol/verdict";
import { similarityPanelOf } from "../routing/panels";
import { loadRoutingStatistics } from "../routing/statisticsFile";
import { readDistillation } from "../run/folder/distillationFile";
import { runPaths, runDirectories } from "../run/folder/runFolder";
import { readLabels } from "../run/folder/labels";
import { isHeld } from "../run/folder/lock";
import { nameOf } from "../run/steps/pipelineSteps";
import { distillationTables } from "./distillationTables";
import { againstTeacher } from "./tradeOff";
import { stageName } from "./stageTable";
import { readReportData, type ReportData } from "./reportData";
import { amountOf } from "./amount";
import { halfWidthOf } from "./format";

/** Routing panel of a run; null before its profile is done. */
export async function routingPanel(runDirectory: string): Promise<RoutingPanelData | null> {
  return (await readReportData(runDirectory)).routing;
}

/** Similarity panel of one layer; null before the profile is done. */
export async function similarityPanel(
  runDirectory: string,
  request: { layer?: number; metric?: SimilarityMetric },
): Promise<SimilarityPanelData | null> {
  const { run, plan, hasStatistics } = await readReportData(runDirectory);
  if (!hasStatistics) return null;
  const paths = await runPaths(runDirectory, run.recipe, run.baseFolder);
  const statistics = await loadRoutingStatistics(paths.file("statistics"));
  const layer = request.layer ?? statistics.layers[0]?.layer;
  const numExperts = statistics.layers.find((l) => l.layer === layer)?.numExperts ?? 0;
  return similarityPanelOf(statistics, { ...request, ...plannedFate(plan, layer, numExperts) });
}

/** Router KD panel; null before the first update. */
export async function calibrationPanel(runDirectory: string): Promise<CalibrationPanelData | null> {
  return (await readReportData(runDirectory)).calibration;
}

/** Divergence panel; null before anything was evaluated against the teacher. */
export async function divergencePanel(runDirectory: string): Promise<DivergencePanelData | null> {
  return (await readReportData(runDirectory)).divergence;
}

/** The figures of distillation that a run, or a comparison, has measured; null where it has none. */
export async function distillationPanel(directory: string): Promise<DistillationPanelData | null> {
  const file = await readDistillation(directory);
  const tables = file ? distillationTables(file) : [];
  if (tables.length === 0) return null;
  const figures = tables.map(({ title, xAxis, yAxis, series, head, rows }) => ({
    ...{ title, xAxis, yAxis, rows: xAxis === "arm" ? { head, cells: rows } : null },
    series: series.map(({ name, points }) => ({
      name,
      points: points.map(({ x, y, halfWidth95 = null }) => ({ x, y, halfWidth95 })),
    })),
  }));
  return { figures };
}

/** Every evaluated checkpoint of every run below a folder. */
export async function tradeOffPanel(runsFolder: string): Promise<TradeOffPanelData> {
  const runs = await runDirectories(runsFolder);
  const points = await Promise.all(runs.map(async (directory) => tradeOffPoints(await readReportData(directory))));
  return { points: withoutRepeatedTeachers(points.flat()) };
}

/** The cells of a comparison share one measurement of their teacher: it is one point. */
function withoutRepeatedTeachers(points: TradeOffPoint[]): TradeOffPoint[] {
  const seen = new Set<string>();
  return points.filter(({ run: _run, runDirectory: _directory, label: _label, ...point }) => {
    const key = JSON.stringify(point);
    if (point.stage !== "teacher" || !seen.has(key)) {
      seen.add(key);
      return true;
    }
    return false;
  });
}

/** Runs below a folder, newest first. Folders that cannot be read are left out. */
export async function listRuns(runsFolder: string): Promise<RunSummary[]> {
  const directories = await runDirectories(runsFolder);
  const summaries = await Promise.all(directories.map((directory) => summarise(directory).catch(() => null)));
  return summaries.flatMap((s) => (s ? [s] : [])).sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1));
}

function plannedFate(
  plan: CompressionPlan | null,
  layer: number | undefined,
  numExperts: number,
): { groups: number[][]; dropped: number[] } {
  const key = String(layer);
  if (plan?.paradigm === "pruning" && plan.layers[key]) {
    const kept = new Set(plan.layers[key].kept);
    return { groups: [], dropped: Array.from({ length: numExperts }, (_, e) => e).filter((e) => !kept.has(e)) };
  }
  if (plan?.paradigm === "merging" && plan.layers[key]) {
    return { groups: plan.layers[key].groups.map(({ members }) => members), dropped: [] };
  }
  return { groups: [], dropped: [] };
}

async function tradeOffPoints({ run, runDirectory, evaluation }: ReportData): Promise<TradeOffPoint[]> {
  if (!evaluation) return [];
  const { teacher } = await runPaths(runDirectory, run.recipe, run.baseFolder);
  const { path: text, sha256, sequences, sequenceLength } = evaluation.data;
  const group = {
    id: JSON.stringify([teacher, sha256, sequences, sequenceLength]),
    label: `${path.basename(run.recipe.teacher)} on ${path.basename(text)}, ${sequences} x ${sequenceLength} tokens`,
  };
  return checkpointsOf(run, evaluation).flatMap(({ stage, name, model, compress }): TradeOffPoint[] => {
    if (!model) return [];
    const { uncertainty, cost } = model;
    return [
      {
        run: run.id,
        runDirectory,
        group,
        label: name,
        stage,
        method: compress?.method ?? null,
        keep: compress ? amountOf(compress) : null,
        parametersTotal: cost.parametersTotal,
        bytes: cost.bytes,
        klToTeacher: model.klToTeacher,
        nllPerToken: model.nllPerToken,
        klHalfWidth: halfWidthOf(uncertainty.klToTeacher),
        nllHalfWidth: halfWidthOf(uncertainty.nllPerToken),
        tokensPerSecond: cost.tokensPerSecond,
        peakMemoryBytes: cost.peakMemoryBytes,
        ...againstTeacher(cost, evaluation.teacher?.cost ?? null),
      },
    ];
  });
}

interface Evaluated {
  stage: TradeOffPoint["stage"];
  name: string;
  model: ModelEvaluation | null;
  compress: CompressOptions | undefined;
}

/** The checkpoints that a run measured: its teacher, whose point runs share, and its student or what each step left. */
function checkpointsOf({ name, recipe }: RunFile, evaluation: EvaluationFile): Evaluated[] {
  const { compress, steps } = recipe;
  const teacher: Evaluated = {
    ...{ stage: "teacher", name: `${path.basename(recipe.teacher)}: teacher` },
    ...{ model: evaluation.teacher, compress: undefined },
  };
  if (!evaluation.steps)
    return [
      teacher,
      ...(["before", "after"] as const).map((stage) => ({
        ...{ stage, name: `${name}: ${stage} calibration` },
        ...{ model: evaluation[stage], compress },
      })),
    ];
  const own = evaluation.steps.map(({ number, name: step, evaluation: model }): Evaluated => {
    const done = steps?.slice(0, number) ?? [];
    const stage = done.at(-1)?.calibrate ? "after" : "before";
    return {
      stage,
      name: `${name}: ${number} ${step}`,
      model,
      compress: done.findLast((one) => one.compress)?.compress,
    };
  });
  return [teacher, ...own];
}

async function summarise(directory: string): Promise<RunSummary> {
  const { run, evaluation } = await readReportData(directory);
  const labels = await readLabels(directory);
  return {
    directory,
    id: run.id,
    name: labels.name ?? run.name,
    createdAt: run.createdAt,
    state: await stateOf(run, directory),
    stages: run.stages.map(({ id, step, state, seconds }) => ({
      ...{ id, state, seconds },
      ...(step === undefined ? {} : { name: stageName({ id, step }, run.recipe) }),
    })),
    ...(evaluation?.steps ? { steps: evaluation.steps.map(stepSummary) } : {}),
    error: run.stages.find(({ error }) => error)?.error ?? null,
    baseFolder: run.baseFolder,
    teacher: run.recipe.teacher,
    output: run.recipe.output,
    method: run.recipe.compress?.method ?? run.recipe.steps?.map(nameOf).join(", ") ?? null,
    verdict: evaluation?.comparison
      ? verdictWords(evaluation.comparison.verdict, evaluation.comparison.trainedOn)
      : null,
    klBefore: evaluation?.before?.klToTeacher ?? null,
    klAfter: evaluation?.after?.klToTeacher ?? null,
    ...(run.runtime ? { provider: run.runtime.provider } : {}),
    tags: labels.tags,
  };
}

function stepSummary({ number, name, evaluation }: NonNullable<EvaluationFile["steps"]>[number]) {
  const { cost, klToTeacher, uncertainty } = evaluation;
  return {
    name: `${number} ${name}`,
    ...{ parameters: cost.parametersTotal, bytes: cost.bytes, klToTeacher },
    klHalfWidth: halfWidthOf(uncertainty.klToTeacher),
  };
}

/** "running" needs a living process behind it: what a killed one left behind is "interrupted". */
async function stateOf({ stages }: RunFile, directory: string): Promise<RunSummary["state"]> {
  const states = new Set(stages.map(({ state }) => state));
  if (await isHeld(directory)) return "running";
  if (states.has("running")) return "interrupted";
  if (states.has("failed")) return "failed";
  if (states.has("cancelled")) return "cancelled";
  if (!states.has("pending")) return "done";
  return states.has("done") ? "interrupted" : "pending";
}
