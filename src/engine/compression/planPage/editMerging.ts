import { RerouteError } from "../../../protocol/errors";
import type { MergingPlan } from "../../../protocol/plan";

type Group = MergingPlan["layers"][string]["groups"][number];

/**
 * Moves an expert to the group of `to`, or to one of its own. It gets an equal share there, the weights beside it shrink in
 * proportion; those it leaves grow in proportion. Where it was dominant, the heaviest of the others is.
 * @returns what happened
 * @throws RerouteError `plan/invalid` where it is there already
 */
export function regroup(plan: MergingPlan, layer: number, expert: number, to: number | null): string {
  const entry = plan.layers[String(layer)]!;
  const from = groupOf(entry.groups, layer, expert);
  const target = to === null ? null : groupOf(entry.groups, layer, to);
  if (target === from || (to === null && from.members.length === 1)) {
    throw new RerouteError("plan/invalid", `Expert ${expert} of layer ${layer} is in that group already`);
  }
  const others = entry.groups.filter((group) => group !== from && group !== target);
  const rest = without(from, expert);
  const joined: Group = target ? withExpert(target, expert) : { members: [expert], weights: [1], dominant: expert };
  entry.groups = [...others, ...(rest ? [rest] : []), joined].sort((a, b) => a.dominant - b.dominant);
  return target
    ? `expert ${expert} of layer ${layer} joins the group of expert ${target.dominant}`
    : `expert ${expert} of layer ${layer} stands alone`;
}

function groupOf(groups: readonly Group[], layer: number, expert: number): Group {
  const found = groups.find(({ members }) => members.includes(expert));
  if (found) return found;
  throw new RerouteError("plan/invalid", `The plan puts expert ${expert} of layer ${layer} in no group`);
}

function without({ centre, ...group }: Group, expert: number): Group | null {
  const at = group.members.indexOf(expert);
  const members = group.members.toSpliced(at, 1);
  if (members.length === 0) return null;
  const left = group.weights.toSpliced(at, 1);
  const total = left.reduce((sum, weight) => sum + weight, 0);
  const weights = left.map((weight) => (total > 0 ? weight / total : 1 / left.length));
  const heaviest = members[weights.indexOf(Math.max(...weights))]!;
  const kept = centre !== undefined && centre !== expert ? { centre } : {};
  return { members, weights, dominant: group.dominant === expert ? heaviest : group.dominant, ...kept };
}

function withExpert(group: Group, expert: number): Group {
  const n = group.members.length;
  const pairs = [
    ...group.members.map((member, i) => [member, (group.weights[i]! * n) / (n + 1)] as const),
    [expert, 1 / (n + 1)] as const,
  ].sort(([a], [b]) => a - b);
  return { ...group, members: pairs.map(([member]) => member), weights: pairs.map(([, weight]) => weight) };
}
