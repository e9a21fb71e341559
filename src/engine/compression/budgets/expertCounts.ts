import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import type { CompressOptions } from "../../../protocol/recipe";
import type { MoeDescription } from "../../model/description";
import type { LayerStatistics } from "../../routing/layerStatistics";
import { similarityMatrix } from "../../routing/similarity";
import { groupsOf } from "../plan/keptCount";
import { oneOf, searchOptions, searchSequences, wholeNumber } from "./searchOptions";

/** How many experts stay in each layer, at the same total as the same number everywhere. */
export const expertBudgets = ["uniform", "sensitivity", "grape", "evoesap"] as const;
export type ExpertBudget = (typeof expertBudgets)[number];

/** GRAPE's gamma: a layer that takes more than this share of the budgets' entropy waits for the others. */
const defaultGamma = 0.01;
const notAShare = { error: "give a number between 0 and 1" };

const { population, generations, fitness } = searchOptions("With budget=evoesap");

/** How a pruning criterion's experts are shared out among layers. */
export const budgetOptions = z.strictObject({
  budget: oneOf(expertBudgets)
    .default("uniform")
    .describe(
      "uniform: as many experts in every layer, loads everywhere; sensitivity: more where scores are even, free, loads in Reroute only; grape: fewer where experts are alike, free, loads in Reroute only; evoesap: an evolutionary search that runs the model some 200 times over 16 sequences, loads in Reroute only",
    ),
  gamma: z
    .number(notAShare)
    .gt(0, notAShare)
    .lt(1, notAShare)
    .default(defaultGamma)
    .describe("With budget=grape: share of the budgets' entropy beyond which a layer waits for the others"),
  population,
  generations,
  sequences: wholeNumber(1)
    .default(searchSequences)
    .describe("With budget=evoesap: calibration sequences that every candidate runs through the model"),
  fitness,
});
export type BudgetOptions = z.infer<typeof budgetOptions>;

/**
 * The budget that a pruning criterion's options name; what else a criterion has is its own.
 * @throws RerouteError arguments/invalid
 */
export function budgetOf({ options }: Pick<CompressOptions, "options">): BudgetOptions {
  const parsed = z.object(budgetOptions.shape).safeParse(options);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const [name] = issue.path;
  throw invalid(`The option ${String(name)} is ${JSON.stringify(options[String(name)])}; ${issue.message}`);
}

/** Whether budgets are found by running the model. */
export function searchesBudgets(options: CompressOptions["options"]): boolean {
  return options["budget"] === "evoesap";
}

/** One layer as budgets see it. */
export interface BudgetLayer {
  layer: number;
  moe: MoeDescription;
  /** Experts that stay with a uniform budget. */
  uniform: number;
  /** [experts] the criterion's scores, higher is better; null: never routed. */
  scores: readonly (number | null)[];
  statistics: LayerStatistics | null;
}

/**
 * Experts that stay in each layer.
 * @throws RerouteError arguments/invalid where routing is limited to groups, or the profile lacks what the budget compares
 */
export function layerCounts(layers: readonly BudgetLayer[], budget: ExpertBudget, gamma: number): number[] {
  const uniform = layers.map((layer) => layer.uniform);
  if (budget === "uniform" || layers.every(({ uniform: count, moe }) => count === moe.numExperts)) return uniform;
  requireOneGroup(layers, budget);
  if (budget === "evoesap") throw new RerouteError("internal", "the budget evoesap is searched by evolvedPlan");
  const total = uniform.reduce((sum, count) => sum + count, 0);
  const least = layers.map(({ moe }) => moe.numExpertsPerToken);
  if (budget === "sensitivity") {
    return countsByScore(
      layers.map(({ scores }) => scores),
      total,
      least,
    );
  }
  return countsByRedundancy(layers.map(redundancy), total, least, gamma);
}

/** @throws RerouteError arguments/invalid where routing is limited to groups, which keep the same number each */
export function requireOneGroup(layers: readonly Pick<BudgetLayer, "layer" | "moe">[], budget: ExpertBudget): void {
  const limited = layers.find(({ moe }) => groupsOf(moe) > 1);
  if (limited) {
    throw invalid(
      `The budget ${budget} gives layers different numbers of experts, but the router of layer ${limited.layer} chooses among groups, which must stay equal; use budget=uniform, or drop the limit (group limits: drop)`,
    );
  }
}

/**
 * Experts leave one after the other, each time the one whose score is the smallest share of its layer's sum, until `total`
 * stay; no layer goes below `least`.
 */
export function countsByScore(
  layers: readonly (readonly (number | null)[])[],
  total: number,
  least: readonly number[],
): number[] {
  const shares = layers.map((scores) => {
    const sum = scores.reduce((all: number, score) => all + (score ?? 0), 0);
    return scores.map((score) => (sum > 0 ? (score ?? 0) / sum : 0)).sort((a, b) => a - b);
  });
  const counts = shares.map(({ length }) => length);
  for (let left = counts.reduce((sum, n) => sum + n, 0); left > total; left--) {
    const next = pick(
      counts,
      (l) => counts[l]! > least[l]!,
      (l) => -shares[l]![shares[l]!.length - counts[l]!]!,
    );
    if (next < 0) break;
    counts[next]!--;
  }
  return counts;
}

/**
 * GRAPE (arXiv 2604.06542): the layer whose experts are most alike, R_l = sum over i != j of D_ij, joins its most similar pair,
 * whose entry then counts no more; each pair of two clusters is one expert less. A layer at which the entropy of the shares
 * of clusters falls below (1 - gamma) of the uniform one's waits until all do.
 *
 * @param similarities D [E, E] of each layer, symmetric, at least 0
 */
export function countsByRedundancy(
  similarities: readonly { numExperts: number; similarity: Float64Array }[],
  total: number,
  least: readonly number[],
  gamma: number,
): number[] {
  const layers = similarities.map(({ numExperts: E, similarity }) => {
    const pairs: { i: number; j: number; value: number }[] = [];
    for (let i = 0; i < E; i++) for (let j = i + 1; j < E; j++) pairs.push({ i, j, value: similarity[i * E + j]! });
    pairs.sort((a, b) => b.value - a.value || a.i - b.i || a.j - b.j);
    const redundancy = pairs.reduce((sum, { value }) => sum + 2 * value, 0);
    return { pairs, next: 0, redundancy, cluster: Array.from({ length: E }, (_, e) => e), frozen: false };
  });
  const counts = similarities.map(({ numExperts }) => numExperts);
  const limit = (1 - gamma) * entropy(counts);
  for (let left = counts.reduce((sum, n) => sum + n, 0); left > total;) {
    const mayJoin = (l: number) => counts[l]! > least[l]! && layers[l]!.next < layers[l]!.pairs.length;
    if (!layers.some(({ frozen }, l) => !frozen && mayJoin(l))) {
      if (!layers.some((_, l) => mayJoin(l))) break;
      for (const layer of layers) layer.frozen = false;
    }
    const next = pick(
      counts,
      (l) => !layers[l]!.frozen && mayJoin(l),
      (l) => layers[l]!.redundancy,
    );
    const layer = layers[next]!;
    const { i, j, value } = layer.pairs[layer.next++]!;
    layer.redundancy -= 2 * value;
    const [a, b] = [layer.cluster[i]!, layer.cluster[j]!];
    if (a === b) continue;
    layer.cluster = layer.cluster.map((own) => (own === b ? a : own));
    counts[next]!--;
    left--;
    if (entropy(counts) < limit) layer.frozen = true;
  }
  return counts;
}

/** How alike a layer's experts are: cosine of mean outputs, below 0 as 0; one that was never routed is like any. */
function redundancy({ layer, moe, statistics }: BudgetLayer): { numExperts: number; similarity: Float64Array } {
  const cosine = statistics && similarityMatrix(statistics, "output-cosine");
  if (cosine === null) {
    throw invalid(
      `The budget grape compares experts' outputs, which the profile of layer ${layer} does not hold; profile this checkpoint`,
    );
  }
  return {
    numExperts: moe.numExperts,
    similarity: cosine.map((value) => (Number.isNaN(value) ? 1 : Math.max(0, value))),
  };
}

/** The index with the highest value among those that may be taken; the first of equal ones, -1 for none. */
function pick(all: readonly number[], mayTake: (i: number) => boolean, value: (i: number) => number): number {
  return all.reduce((best, _, i) => (mayTake(i) && (best < 0 || value(i) > value(best)) ? i : best), -1);
}

function entropy(counts: readonly number[]): number {
  const total = counts.reduce((sum, n) => sum + n, 0);
  return counts.reduce((sum, n) => (n > 0 ? sum - (n / total) * Math.log(n / total) : sum), 0);
}

function invalid(message: string): RerouteError {
  return new RerouteError("arguments/invalid", message);
}
