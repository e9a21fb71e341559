import type { RoutingFidelityLayer } from "../../protocol/evaluation";
import { coefficientOfVariation, neverUsed, utilisation } from "./loadBalance";

/**
 * How differently two models use a layer's experts: half the sum of absolute differences of utilisation (total variation), groups of
 * teacher experts taken together and dropped ones against 0; and how even each model is by itself.
 *
 * @param teacherTokens [teacher experts] tokens that went to each
 * @param studentTokens [student experts]
 * @param mapping teacher experts of each student expert
 */
export function loadChange(
  teacherTokens: Float64Array,
  studentTokens: Float64Array,
  mapping: readonly (readonly number[])[],
): NonNullable<RoutingFidelityLayer["load"]> {
  const [theirs, own] = [utilisation(teacherTokens), utilisation(studentTokens)];
  const groups = mapping.map((experts) => experts.reduce((total, e) => total + (theirs[e] ?? 0), 0));
  const present = new Set(mapping.flat());
  const dropped = theirs.reduce((total, share, e) => (present.has(e) ? total : total + share), 0);
  const moved = groups.reduce((total, share, s) => total + Math.abs(share - (own[s] ?? 0)), dropped);
  const evenness = (tokens: Float64Array) => ({
    coefficientOfVariation: tokens.length === 0 ? 0 : coefficientOfVariation(tokens),
    dead: neverUsed(tokens).length,
  });
  return { totalVariation: moved / 2, teacher: evenness(teacherTokens), student: evenness(studentTokens) };
}
