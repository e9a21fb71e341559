import { RerouteError } from "../../../protocol/errors";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { withoutGroupLimits } from "./groupLimits";
import { moeLayers } from "../../model/moeLayers";

/**
 * How many experts of a layer stay. `keep` up to 1 is a share, rounded to the nearest count (to the nearest count per
 * group where routing is limited to groups); above 1 it is a count. With `multipleOf`, the multiple nearest to that.
 * @throws RerouteError `plan/invalid` where the router could not select its top-k afterwards, groups would differ, or no
 * multiple drops anything.
 */
export function keptCount({ keep, multipleOf }: KeepOptions, layer: number, moe: MoeDescription): number {
  const { numExperts, numExpertsPerToken } = moe;
  const groups = groupsOf(moe);
  const isShare = keep <= 1;
  if (!isShare && !Number.isInteger(keep)) {
    throw invalid(`keep is ${keep}: give a share up to 1 or a whole number of experts`);
  }
  const asked = isShare ? Math.round((numExperts / groups) * keep) * groups : keep;
  let wanted = isShare ? `keep ${keep} leaves ${asked} of ${numExperts} experts` : `keep asks for ${asked} experts`;
  if (asked > numExperts) {
    throw invalid(`${wanted}, but layer ${layer} has only ${numExperts}; use a count up to ${numExperts} or a share`);
  }
  const kept = multipleOf === undefined ? asked : nearestMultiple(asked, leastCommonMultiple(multipleOf, groups));
  if (multipleOf !== undefined) {
    const each = groups > 1 ? ` that ${groups} equal groups share` : "";
    wanted = `${wanted}, and the nearest multiple of ${multipleOf}${each} is ${kept}`;
    const unreachable = kept > numExperts || (kept === numExperts && asked < numExperts);
    if (unreachable || (kept < numExpertsPerToken && asked >= numExpertsPerToken)) {
      const why = unreachable
        ? `which drops none of the ${numExperts} experts of layer ${layer}`
        : `but the router of layer ${layer} selects ${numExpertsPerToken} a token`;
      throw invalid(`${wanted}, ${why}; use another keep, or a smaller multiple`);
    }
  }
  if (kept < numExpertsPerToken) {
    throw invalid(
      `${wanted} in layer ${layer}, but its router selects ${numExpertsPerToken} a token; keep at least ${smallest(moe)} ` +
        `(${(smallest(moe) / numExperts).toFixed(3)})`,
    );
  }
  if (kept % groups !== 0) {
    throw invalid(
      `${wanted} in layer ${layer}, but its router chooses among ${groups} equal groups; use a multiple of ${groups}, or drop the limit (group limits: drop)`,
    );
  }
  assertGroupsWork(kept, layer, moe);
  return kept;
}

/** What decides how many experts stay. */
export type KeepOptions = Pick<CompressOptions, "keep" | "multipleOf">;

/** What a plan says about it. */
export function keepAsSaid({ keep, multipleOf }: KeepOptions): { keep: number; multipleOf?: number } {
  return { keep, ...(multipleOf === undefined ? {} : { multipleOf }) };
}

/** The multiple of `step` nearest to a count; of two equally near ones the smaller, so that no more stays than was asked for. */
export function nearestMultiple(count: number, step: number): number {
  return Math.ceil(count / step - 0.5) * step;
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y !== 0) [x, y] = [y, x % y];
  return (a / x) * b;
}

/** Ids of as many experts of each layer as stay, whichever: what is scored does not change the size. */
export function keptAnyhow(
  description: ModelDescription,
  { groupLimits, ...keep }: KeepOptions & Pick<CompressOptions, "groupLimits">,
): Record<string, number[]> {
  const layers = moeLayers(description).map(({ layer, moe: limited }) => {
    const moe = groupLimits === "drop" ? withoutGroupLimits(limited) : limited;
    const count = keptCount(keep, layer, moe);
    const scores = new Array<null>(moe.numExperts).fill(null);
    const kept = selectKept({ scores, keepEnd: "highest", count, groups: groupsOf(moe), protectedExperts: new Set() });
    return [String(layer), kept] as const;
  });
  return Object.fromEntries(layers);
}

export interface SelectionRequest {
  /** [E] score of each expert; null: no calibration token reached it, so it goes first. */
  scores: readonly (number | null)[];
  /** Which end of the scores stays. */
  keepEnd: "highest" | "lowest";
  count: number;
  /** Equal consecutive groups that must each keep the same number; 1 without group limits. */
  groups: number;
  /** Experts that stay whatever their score. */
  protectedExperts: ReadonlySet<number>;
}

/**
 * Ids of the experts that stay, ascending. Order of preference: protected, then by score, then never routed; ties go to
 * the lower id. Where more are protected than may stay, the better-scored ones do.
 */
export function selectKept({ scores, keepEnd, count, groups, protectedExperts }: SelectionRequest): number[] {
  const sign = keepEnd === "highest" ? -1 : 1;
  const rank = (expert: number): number => (protectedExperts.has(expert) ? 0 : scores[expert] === null ? 2 : 1);
  const better = (a: number, b: number): number =>
    rank(a) - rank(b) || sign * ((scores[a] ?? 0) - (scores[b] ?? 0)) || a - b;
  const perGroup = scores.length / groups;
  return Array.from({ length: groups }, (_, g) => Array.from({ length: perGroup }, (_, i) => g * perGroup + i))
    .flatMap((members) => members.sort(better).slice(0, count / groups))
    .sort((a, b) => a - b);
}

/** Number of groups the router chooses among; 1 without group limits. */
export function groupsOf({ routing }: MoeDescription): number {
  return routing.kind === "sparse-mixer" ? 1 : (routing.groups?.numGroups ?? 1);
}

/**
 * Group-limited routing needs enough experts in each group: two where a group's score is the sum of its best two, and
 * together the chosen groups must hold the top-k.
 * @throws RerouteError `plan/invalid`
 */
export function assertGroupsWork(kept: number, layer: number, moe: MoeDescription): void {
  const limit = moe.routing.kind === "sparse-mixer" ? null : moe.routing.groups;
  if (!limit || limit.numGroups === 1) return;
  const perGroup = kept / limit.numGroups;
  if (limit.score === "sum-of-two" && perGroup < 2) {
    throw invalid(
      `${kept} experts leave ${perGroup} in each of the ${limit.numGroups} groups of layer ${layer}, but a group's score is ` +
        `the sum of its best two; keep at least ${2 * limit.numGroups}`,
    );
  }
  if (limit.topGroups * perGroup < moe.numExpertsPerToken) {
    throw invalid(
      `${kept} experts leave ${perGroup} in each group of layer ${layer}; the router looks at ${limit.topGroups} groups and ` +
        `selects ${moe.numExpertsPerToken} experts; keep at least ${smallest(moe)}`,
    );
  }
}

/** The smallest number of experts that the layer's routing works with. */
function smallest(moe: MoeDescription): number {
  const limit = moe.routing.kind === "sparse-mixer" ? null : moe.routing.groups;
  if (!limit || limit.numGroups === 1) return moe.numExpertsPerToken;
  const perGroup = Math.ceil(moe.numExpertsPerToken / limit.topGroups);
  return limit.numGroups * Math.max(perGroup, limit.score === "sum-of-two" ? 2 : 1);
}

function invalid(message: string): RerouteError {
  return new RerouteError("plan/invalid", message);
}
