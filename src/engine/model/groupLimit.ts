import { readNullableInt, unsupported, type Config } from "./config";
import type { GroupLimit } from "./description";
import type { ExpertCount } from "./expertCount";

/**
 * `n_group` and `topk_group`: experts are divided in equal groups, and a token chooses within its best few. One group is
 * no limit.
 * @throws RerouteError `model/unsupported-option` where the experts do not divide or too few can be chosen from.
 */
export function readGroupLimit(
  config: Config,
  count: ExpertCount,
  score: GroupLimit["score"],
  absent: { numGroups: number | null; topGroups: number | null },
): GroupLimit | null {
  const numGroups = readNullableInt(config, "n_group", { min: 1, absent: absent.numGroups }) ?? 1;
  const topGroups = readNullableInt(config, "topk_group", { min: 1, absent: absent.topGroups }) ?? 1;
  if (numGroups === 1) return null;
  const experts = count.numLogicalExperts;
  const size = experts / numGroups;
  if (!Number.isInteger(size))
    throw unsupported("n_group", numGroups, `a divisor of the ${experts} experts of a layer`);
  if (score === "sum-of-two" && size < 2) throw unsupported("n_group", numGroups, "groups of at least two experts");
  if (topGroups > numGroups) throw unsupported("topk_group", topGroups, `at most n_group = ${numGroups}`);
  if (topGroups * size < count.numExpertsPerToken) {
    const enough = `enough groups of ${size} experts for num_experts_per_tok = ${count.numExpertsPerToken}`;
    throw unsupported("topk_group", topGroups, enough);
  }
  return { numGroups, topGroups, score };
}
