import { RerouteError } from "../../../protocol/errors";
import type { PlanAmount } from "../../../protocol/panels";
import type { PruningPlan } from "../../../protocol/plan";
import { groupsOf } from "../plan/keptCount";
import { endOfScores } from "../pruning/criteria";
import type { PlanLayer } from "./planLayers";

/**
 * Drops or keeps one expert. Where every layer keeps the same number, another expert of the same routing group changes
 * places with it: the best scored that is dropped, or the worst scored that is kept.
 * @returns what happened
 * @throws RerouteError `plan/invalid` where nobody can take its place
 */
export function toggleExpert(plan: PruningPlan, { layer, moe }: PlanLayer, expert: number): string {
  const entry = plan.layers[String(layer)]!;
  const kept = new Set(entry.kept);
  const isDropped = !kept.has(expert);
  if (isDropped) kept.add(expert);
  else kept.delete(expert);
  const done = `expert ${expert} of layer ${layer} is ${isDropped ? "kept" : "dropped"}`;
  const groups = groupsOf(moe);
  const swaps = plan.counts !== "by-layer" || groups > 1;
  let other: number | undefined;
  if (swaps) {
    const size = moe.numExperts / groups;
    const own = Math.floor(expert / size);
    const order = preference(plan, layer).filter((e) => e !== expert && Math.floor(e / size) === own);
    other = isDropped ? order.findLast((e) => kept.has(e)) : order.find((e) => !kept.has(e));
    if (other === undefined) {
      const where = groups > 1 ? `the routing group of expert ${expert}` : `layer ${layer}`;
      throw invalid(
        isDropped
          ? `No other kept expert of ${where} can leave for expert ${expert}; raise the number of kept experts`
          : `Every expert of ${where} is kept; lower the number of kept experts${groups > 1 ? "" : ", or let layers keep different numbers"}`,
      );
    }
    if (isDropped) kept.delete(other);
    else kept.add(other);
  }
  entry.kept = ascending(kept);
  return other === undefined ? done : `${done}, expert ${other} ${isDropped ? "is dropped" : "is kept"} in its place`;
}

/** Keeps `count` experts of each of these layers: those with the best scores, of the kept ones before the dropped ones. */
export function setCount(plan: PruningPlan, layers: readonly PlanLayer[], count: number): void {
  for (const { layer, moe } of layers) {
    const entry = plan.layers[String(layer)]!;
    if (entry.kept.length === count) continue;
    const groups = groupsOf(moe);
    if (count % groups !== 0)
      throw invalid(`Layer ${layer} routes within ${groups} groups: keep a multiple of ${groups}, found ${count}`);
    const size = moe.numExperts / groups;
    const order = preference(plan, layer);
    const isKept = new Set(entry.kept);
    const ordered = [...order.filter((e) => isKept.has(e)), ...order.filter((e) => !isKept.has(e))];
    const ofGroup = (g: number) => ordered.filter((e) => Math.floor(e / size) === g).slice(0, count / groups);
    entry.kept = ascending(Array.from({ length: groups }, (_, g) => ofGroup(g)).flat());
  }
}

/** Whether layers may keep different numbers; all keep the rounded mean once they may not. */
export function setCounts(plan: PruningPlan, layers: readonly PlanLayer[], counts: "uniform" | "by-layer"): void {
  if (counts === "by-layer") {
    plan.counts = "by-layer";
    return;
  }
  delete plan.counts;
  const total = layers.reduce((sum, { layer }) => sum + plan.layers[String(layer)]!.kept.length, 0);
  const groups = Math.max(...layers.map(({ moe }) => groupsOf(moe)));
  setCount(plan, layers, Math.round(total / layers.length / groups) * groups);
}

/** The numbers of kept experts: one for all layers, or one for each. */
export function keptAmounts(plan: PruningPlan, layers: readonly PlanLayer[]): PlanAmount[] {
  const amount = (layer: number | null, { moe }: PlanLayer, value: number): PlanAmount => {
    const step = groupsOf(moe);
    const min = Math.ceil(moe.numExpertsPerToken / step) * step;
    return {
      ...{ layer, name: "", value, min, max: moe.numExperts, step, choices: null },
      text: `${value} of ${moe.numExperts} experts`,
    };
  };
  const countOf = ({ layer }: PlanLayer) => plan.layers[String(layer)]?.kept.length ?? 0;
  if (plan.counts === "by-layer") return layers.map((one) => amount(one.layer, one, countOf(one)));
  return layers.slice(0, 1).map((one) => amount(null, one, countOf(one)));
}

/** Experts of a layer, the best first; without a score last, ties by the lower id. */
function preference(plan: PruningPlan, layer: number): number[] {
  const scores = scoresOf(plan, layer);
  const sign = endOfScores(plan.method) === "highest" ? -1 : 1;
  const none = sign === -1 ? -Infinity : Infinity;
  const value = (expert: number): number => scores[expert] ?? none;
  return Array.from(scores.keys()).sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    return x === y ? a - b : sign * (x - y);
  });
}

function scoresOf(plan: PruningPlan, layer: number): readonly (number | null)[] {
  const { scores } = plan.layers[String(layer)]!;
  if (scores) return scores;
  throw invalid(
    `The plan holds no scores for layer ${layer} to choose experts by; let layers keep different numbers and choose each expert`,
  );
}

function ascending(experts: Iterable<number>): number[] {
  return [...experts].sort((a, b) => a - b);
}

function invalid(message: string): RerouteError {
  return new RerouteError("plan/invalid", message);
}
