import { readFile } from "node:fs/promises";
import type { DenseStudentFile } from "../../protocol/denseStudent";
import type { DistillationFile } from "../../protocol/distillation";
import type { EvaluationFile } from "../../protocol/evaluation";
import type { MetricsLine } from "../../protocol/metrics";
import type { CalibrationPanelData, DivergencePanelData, RoutingPanelData } from "../../protocol/panels";
import { planSchema, type CompressionPlan } from "../../protocol/plan";
import type { RunFile } from "../../protocol/run";
import { describeComparison, describeShare } from "../evaluation/verdict";
import { routingPanelOf } from "../routing/panels";
import { loadRoutingStatistics } from "../routing/statisticsFile";
import { readDistillation } from "../run/folder/distillationFile";
import { readMetrics } from "../run/folder/metricsFile";
import { readRun, runPaths } from "../run/folder/runFolder";
import { readDenseStudent } from "../run/stages/buildStudent";
import { readEvaluation } from "../run/stages/evaluate";
import { comparisonTable, type ComparisonTable } from "./comparisonTable";
import { calibrationData, divergenceData } from "./panelData";

/** Everything a report shows, read from the files of a run folder. What is not there yet is null. */
export interface ReportData {
  runDirectory: string;
  run: RunFile;
  plan: CompressionPlan | null;
  /** What a dense student was built of. */
  dense: DenseStudentFile | null;
  metrics: MetricsLine[];
  evaluation: EvaluationFile | null;
  hasStatistics: boolean;
  routing: RoutingPanelData | null;
  divergence: DivergencePanelData | null;
  calibration: CalibrationPanelData | null;
  distillation: DistillationFile | null;
  table: ComparisonTable | null;
  /** The verdict as a sentence, or why there is none. */
  verdict: string;
}

/** @throws RerouteError run/invalid */
export async function readReportData(runDirectory: string): Promise<ReportData> {
  const run = await readRun(runDirectory);
  const paths = await runPaths(runDirectory, run.recipe, run.baseFolder);
  const plan = await readPlan(paths.file("plan"));
  const metrics = await readMetrics(paths.file("metrics"));
  const evaluation = await readEvaluation(paths.file("evaluation"));
  const statistics = await loadRoutingStatistics(paths.file("statistics")).catch(() => null);
  return {
    runDirectory,
    run,
    plan,
    dense: await readDenseStudent(paths.file("denseStudent")),
    metrics,
    evaluation,
    hasStatistics: statistics !== null,
    routing: statistics && routingPanelOf(statistics),
    divergence: divergenceData(evaluation, plan),
    calibration: calibrationData(run, metrics, evaluation),
    distillation: await readDistillation(runDirectory),
    table: comparisonTable(evaluation),
    verdict: verdictText(run, evaluation),
  };
}

function verdictText({ recipe }: RunFile, evaluation: EvaluationFile | null): string {
  if (evaluation?.comparison) return describeComparison(evaluation.comparison);
  if (recipe.data.evaluation === undefined && !recipe.data.splitEvaluation)
    return "No verdict: the recipe names no evaluation text.";
  const trainedOn = (evaluation?.before ?? evaluation?.teacher)?.trainedOn;
  const share = trainedOn ? ` ${describeShare(trainedOn)}` : "";
  if (recipe.steps && evaluation?.steps?.length === recipe.steps.length)
    return `No verdict: the last step does not calibrate.${share}`;
  if (recipe.steps) return "No verdict yet: not all steps are measured.";
  if (!recipe.calibrate) return `No verdict: the recipe does not calibrate.${share}`;
  return "No verdict yet: the evaluation is not done.";
}

export async function readPlan(file: string): Promise<CompressionPlan | null> {
  try {
    const parsed = planSchema.safeParse(JSON.parse(await readFile(file, "utf8")));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}
