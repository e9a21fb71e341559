import type { PruningPlan } from "../../../protocol/plan";
import { RerouteError } from "../../../protocol/errors";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { neverUsed } from "../../routing/loadBalance";
import {
  overDomains,
  tokensSeen,
  type LayerStatistics,
  type RoutingStatisticsData,
} from "../../routing/layerStatistics";
import { createRandom } from "../../tensor/random";
import { budgetOf, layerCounts, requireOneGroup } from "../budgets/expertCounts";
import { droppedLimitsNote, withoutGroupLimits } from "../plan/groupLimits";
import { groupsOf, keepAsSaid, keptCount, selectKept } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";
import { predictionNotes } from "../plan/predictionLayers";
import { superExperts } from "../plan/superExperts";
import { isPruningCriterion, pruningCriteria, type PruningCriterion } from "./criteria";

export interface PruningPlanRequest {
  description: ModelDescription;
  fingerprint: string;
  options: CompressOptions;
  seed: number;
  /** Needed by methods that look at activations, and by super-expert protection. */
  statistics: RoutingStatisticsData | null;
  /** AIMER's scores [E] by layer number; needed by methods that look at weights. */
  weightScores: ReadonlyMap<number, Float64Array> | null;
  /** Experts that stay in each layer, where a search found them; absent: as the budget says. */
  counts?: readonly number[];
}

/**
 * Decides which experts stay, the same number in every layer. A pure function: the same request gives the same plan.
 * @throws RerouteError `plan/invalid` for an impossible `keep`, `arguments/invalid` for a method or option it has not.
 */
export function makePruningPlan(request: PruningPlanRequest): PruningPlan {
  const { description, options, statistics } = request;
  const { method } = options;
  if (!isPruningCriterion(method)) {
    throw new RerouteError(
      "arguments/invalid",
      `The method ${method} cannot make a pruning plan here; pruning methods are ${Object.keys(pruningCriteria).join(", ")}`,
    );
  }
  const criterion: PruningCriterion = pruningCriteria[method];
  const limited = moeLayers(description);
  const drop = options.groupLimits === "drop" && droppedLimitsNote(limited).length > 0;
  const layers = drop ? limited.map(({ layer, moe }) => ({ layer, moe: withoutGroupLimits(moe) })) : limited;
  // Every impossible ratio is refused before statistics are looked at.
  const uniform = layers.map(({ layer, moe }) => keptCount(options, layer, moe));
  const { budget, gamma } = budgetOf(options);
  const protectedByLayer = superExperts(
    neededStatistics(request, options.protectSuperExperts !== "off"),
    options.protectSuperExperts,
  );

  const notes: string[] = [];
  const scored = layers.map(({ layer, moe }, i) => ({
    ...{ layer, moe, uniform: uniform[i]!, scores: scoresOf(request, criterion, layer, moe) },
    statistics: statistics?.layers.find((found) => found.layer === layer) ?? null,
  }));
  if (budget !== "uniform") requireBudget(criterion, options, budget);
  if (request.counts !== undefined) requireOneGroup(scored, budget);
  const counts = request.counts ?? layerCounts(scored, budget, gamma);
  const differ = counts.some((count) => count !== counts[0]);
  if (differ) {
    notes.push(
      `the budget ${budget} keeps from ${Math.min(...counts)} to ${Math.max(...counts)} experts a layer: only Reroute loads the checkpoint`,
    );
  }
  const planned = scored.map(({ layer, moe, scores }, i) => {
    const protectedExperts = protectedByLayer.get(layer) ?? new Set<number>();
    const kept = selectKept({
      scores,
      keepEnd: criterion.keepEnd,
      count: counts[i]!,
      groups: groupsOf(moe),
      protectedExperts,
    });
    notes.push(...notesOf(request, criterion, layer, kept, protectedExperts));
    return [String(layer), { kept, scores }] as const;
  });
  return {
    schemaVersion: 1,
    paradigm: "pruning",
    method,
    teacherFingerprint: request.fingerprint,
    seed: request.seed,
    options: {
      ...keepAsSaid(options),
      protectSuperExperts: options.protectSuperExperts,
      ...(method === "reap" ? { reapWeights: options.reapWeights } : {}),
      ...options.options,
    },
    notes: [
      ...(drop ? droppedLimitsNote(limited) : []),
      ...neverRoutedNotes(statistics),
      ...notes,
      ...predictionNotes(description),
    ],
    ...(drop ? { groupLimits: "drop" as const } : {}),
    ...(differ ? { counts: "by-layer" as const } : {}),
    layers: Object.fromEntries(planned),
  };
}

/** Budgets compare what the profile holds, so scores must come from it; and they count experts one by one. */
function requireBudget({ source }: PruningCriterion, { method, multipleOf }: CompressOptions, budget: string): void {
  const isScored = source === "statistics" || budget === "evoesap";
  if (isScored && multipleOf === undefined) return;
  throw new RerouteError(
    "arguments/invalid",
    isScored
      ? `The budget ${budget} gives each layer a number of its own, which cannot be a multiple of ${multipleOf!} everywhere; use budget=uniform, or leave the multiple out`
      : `The budget ${budget} needs a method that scores experts by their profile, which ${method} does not; use reap or budget=uniform`,
  );
}

function scoresOf(
  request: PruningPlanRequest,
  criterion: PruningCriterion,
  layer: number,
  moe: MoeDescription,
): (number | null)[] {
  if (criterion.source !== "statistics") return scoresWithoutText(request, criterion.source, layer, moe);
  const statistics = layerStatistics(request, layer, moe);
  const frequency = overDomains(statistics, "frequency");
  const scores = criterion.score(statistics, request.options);
  if (scores.some((score, e) => Number.isNaN(score) && frequency[e]! > 0)) {
    throw new RerouteError(
      "plan/invalid",
      `The routing statistics of layer ${layer} hold nothing that ${request.options.method} scores by (an imported trace has frequencies only); profile this checkpoint`,
    );
  }
  return Array.from(scores, (score, e) => (frequency[e]! > 0 ? score : null));
}

function scoresWithoutText(
  request: PruningPlanRequest,
  source: "weights" | "random",
  layer: number,
  moe: MoeDescription,
): number[] {
  if (source === "random") {
    const random = createRandom(request.seed, layer);
    return Array.from({ length: moe.numExperts }, () => random.uniform());
  }
  const scores = request.weightScores?.get(layer);
  if (!scores) throw new Error(`no weight scores for layer ${layer}`);
  return Array.from(scores);
}

function layerStatistics(request: PruningPlanRequest, layer: number, moe: MoeDescription): LayerStatistics {
  const found = neededStatistics(request, true).find((l) => l.layer === layer);
  if (!found || found.numRouterRows !== moe.numExperts) {
    throw new RerouteError(
      "plan/invalid",
      `The routing statistics hold ${found ? `${found.numRouterRows} experts` : "nothing"} for layer ${layer}, the checkpoint ` +
        `has ${moe.numExperts} experts there; profile this checkpoint again`,
    );
  }
  return found;
}

function neededStatistics({ statistics, options }: PruningPlanRequest, needed: boolean): LayerStatistics[] {
  if (needed && !statistics) {
    throw new RerouteError(
      "arguments/invalid",
      `The method ${options.method}${options.protectSuperExperts === "off" ? "" : " with super-expert protection"} needs ` +
        `calibration text to see how experts are used; give --data FILE, or use the method aimer or random without protection`,
    );
  }
  return statistics?.layers ?? [];
}

function notesOf(
  request: PruningPlanRequest,
  criterion: PruningCriterion,
  layer: number,
  kept: number[],
  protectedExperts: ReadonlySet<number>,
): string[] {
  const notes: string[] = [];
  if (protectedExperts.size > 0) {
    notes.push(`layer ${layer}: super experts protected: ${[...protectedExperts].join(", ")}`);
    const lost = [...protectedExperts].filter((expert) => !kept.includes(expert));
    if (lost.length > 0)
      notes.push(`layer ${layer}: more super experts than experts to keep; dropped all the same: ${lost.join(", ")}`);
  }
  const statistics = request.statistics?.layers.find((l) => l.layer === layer);
  if (criterion.source === "statistics" && statistics) {
    const unused = neverUsed(overDomains(statistics, "frequency")).filter((expert) => kept.includes(expert));
    if (unused.length > 0)
      notes.push(`layer ${layer}: kept although no calibration token reached them: ${unused.join(", ")}`);
  }
  return notes;
}

/** Methods that look at activations know nothing about these experts: said before anything is compressed. */
function neverRoutedNotes(statistics: RoutingStatisticsData | null): string[] {
  if (!statistics) return [];
  return statistics.layers.flatMap((layer) => {
    const unused = neverUsed(overDomains(layer, "frequency"));
    if (unused.length === 0) return [];
    return [
      `layer ${layer.layer}: ${unused.length} of ${layer.numRouterRows} experts never routed by ${tokensSeen(layer)} calibration ` +
        `tokens (${unused.join(", ")}); without a score they leave first`,
    ];
  });
}
