import type { EvaluationFile, ModelEvaluation } from "../../protocol/evaluation";
import type { MetricsLine } from "../../protocol/metrics";
import type { CalibrationPanelData, DivergenceData, DivergencePanelData } from "../../protocol/panels";
import type { CompressionPlan } from "../../protocol/plan";
import type { RunFile } from "../../protocol/run";
import { describeComparison } from "../evaluation/verdict";
import { totalUpdates } from "../run/stages/calibrate";

/** Data of the Router KD panel from metrics and evaluation. */
export function calibrationData(
  run: RunFile,
  metrics: readonly MetricsLine[],
  evaluation: EvaluationFile | null,
): CalibrationPanelData | null {
  const updates = metrics.flatMap((line) => (line.kind === "update" ? [line] : []));
  const heldOut = metrics.flatMap((line) => (line.kind === "held-out" ? [line] : []));
  if (updates.length === 0 && heldOut.length === 0) return null;
  const comparison = evaluation?.comparison;
  return {
    loss: run.recipe.calibrate?.loss,
    ...(run.runtime ? { provider: run.runtime.provider } : {}),
    updates: updates.map(({ step, loss, learningRate, gradientNorm }) => ({ step, loss, learningRate, gradientNorm })),
    heldOut: heldOut.map(({ step, kl, nll, best }) => ({ step, kl, nll, best })),
    totalUpdates: run.recipe.calibrate ? totalUpdates(run.recipe) : null,
    bestStep: heldOut.findLast(({ best }) => best)?.step ?? null,
    verdict: comparison
      ? { verdict: comparison.verdict, trainedOn: comparison.trainedOn, text: describeComparison(comparison) }
      : null,
  };
}

/** Data of the Divergence panel from evaluation.json. */
export function divergenceData(
  evaluation: EvaluationFile | null,
  plan: CompressionPlan | null,
): DivergencePanelData | null {
  const shown = evaluation?.after ?? evaluation?.before;
  const routing = shown?.routing;
  if (!evaluation || !routing) return null;
  const rows = [evaluation.before, evaluation.after].flatMap((model) => model?.routing ?? []);
  const numExperts = rows.reduce((most, { klByExpert }) => Math.max(most, klByExpert.length), 0);
  return {
    teacher: evaluation.teacher?.checkpoint ?? "",
    student: shown.checkpoint,
    layers: routing.map(({ layer }) => layer),
    numExperts,
    mapping: describeMapping(shown, plan, numExperts),
    before: evaluation.before && divergenceOf(evaluation.before, numExperts),
    after: evaluation.after && divergenceOf(evaluation.after, numExperts),
  };
}

function divergenceOf({ routing }: ModelEvaluation, numExperts: number): DivergenceData | null {
  if (!routing) return null;
  const pad = (row: (number | null)[]): (number | null)[] => [
    ...row,
    ...new Array<null>(numExperts - row.length).fill(null),
  ];
  return {
    kl: { rows: routing.length, columns: numExperts, values: routing.flatMap(({ klByExpert }) => pad(klByExpert)) },
    byLayer: routing.map(({ layer, routingKl, l1, topKOverlap }) => ({ layer, routingKl, l1, topKOverlap })),
  };
}

function describeMapping(
  { expertMapping }: ModelEvaluation,
  plan: CompressionPlan | null,
  numExperts: number,
): DivergencePanelData["mapping"] {
  const groups = Object.values(expertMapping ?? {});
  if (groups.some((layer) => layer.some((experts) => experts.length > 1))) {
    return {
      kind: "merged",
      description:
        "Each student expert stands for a group of teacher experts; the group's share is split as the teacher splits it",
    };
  }
  const kept = groups[0]?.length ?? numExperts;
  if (kept === numExperts) return { kind: "identity", description: "Student and teacher have the same experts" };
  const method = plan ? ` by ${plan.method}` : "";
  return {
    kind: "kept",
    description: `${kept} of ${numExperts} teacher experts kept in each layer${method}; student expert i is the i-th kept one; dropped experts are empty`,
  };
}
