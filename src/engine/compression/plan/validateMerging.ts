import { RerouteError } from "../../../protocol/errors";
import type { MergingPlan } from "../../../protocol/plan";
import type { MoeDescription } from "../../model/description";
import { assertGroupsWork, groupsOf } from "./keptCount";

/**
 * Refuses groups that are no partition of a layer's experts, or that its router could not work with.
 * @throws RerouteError `plan/invalid`
 */
export function validateMergedLayer(plan: MergingPlan, layer: number, moe: MoeDescription): void {
  const { groups } = plan.layers[String(layer)]!;
  const seen = new Set<number>();
  for (const { members, weights, dominant, centre } of groups) {
    for (const expert of members) {
      if (expert >= moe.numExperts) {
        throw invalid(
          `The plan merges expert ${expert} of layer ${layer}, which has experts 0 to ${moe.numExperts - 1}`,
        );
      }
      if (seen.has(expert))
        throw invalid(`The plan names expert ${expert} of layer ${layer} twice; name each expert once`);
      seen.add(expert);
    }
    if (!members.includes(dominant)) {
      throw invalid(
        `The dominant expert ${dominant} of layer ${layer} is no member of its group (${members.join(", ")})`,
      );
    }
    if (centre !== undefined && !members.includes(centre)) {
      throw invalid(`The centre ${centre} of layer ${layer} is no member of its group (${members.join(", ")})`);
    }
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    if (weights.length !== members.length || Math.abs(total - 1) > 1e-6) {
      throw invalid(
        `The group of expert ${dominant} in layer ${layer} has ${members.length} members and ${weights.length} weights that ` +
          `add up to ${total}; give one weight a member, adding up to 1`,
      );
    }
  }
  if (seen.size < moe.numExperts) {
    const missing = Array.from({ length: moe.numExperts }, (_, e) => e).filter((e) => !seen.has(e));
    throw invalid(
      `The plan puts experts ${missing.join(", ")} of layer ${layer} in no group; a group may have one member`,
    );
  }
  const dominants = groups.map((group) => group.dominant);
  if (dominants.some((dominant, i) => i > 0 && dominant < dominants[i - 1]!)) {
    throw invalid(
      `The groups of layer ${layer} must be listed by ascending dominant expert, found ${dominants.join(", ")}`,
    );
  }
  if (plan.router === "fold") validateFoldedRouter(dominants, layer, moe);
}

function validateFoldedRouter(dominants: number[], layer: number, moe: MoeDescription): void {
  if (dominants.length < moe.numExpertsPerToken) {
    throw invalid(
      `The plan leaves ${dominants.length} experts in layer ${layer}, but its router selects ${moe.numExpertsPerToken} a token`,
    );
  }
  const routingGroups = groupsOf(moe);
  if (routingGroups === 1) return;
  const size = moe.numExperts / routingGroups;
  const counts = Array.from(
    { length: routingGroups },
    (_, g) => dominants.filter((expert) => Math.floor(expert / size) === g).length,
  );
  if (counts.some((count) => count !== counts[0])) {
    throw invalid(
      `The plan leaves ${counts.join(", ")} experts in the ${routingGroups} routing groups of layer ${layer}; leave the same ` +
        `number in every group, or use router "map"`,
    );
  }
  assertGroupsWork(dominants.length, layer, moe);
}

/**
 * A folded router needs the same number of experts in every layer: config.json holds one number. With a map, Reroute
 * writes one number a layer.
 * @throws RerouteError `plan/invalid`
 */
export function assertUniformGroups(plan: MergingPlan): void {
  if (plan.router !== "fold") return;
  const [first, ...others] = Object.entries(plan.layers);
  const different = others.find(([, { groups }]) => groups.length !== first![1].groups.length);
  if (!first || !different) return;
  throw invalid(
    `The plan leaves ${first[1].groups.length} experts in layer ${first[0]} and ${different[1].groups.length} in layer ${different[0]}; ` +
      `config.json holds one number for all layers; make them equal, or use router "map", which only Reroute loads`,
  );
}

function invalid(message: string): RerouteError {
  return new RerouteError("plan/invalid", message);
}
