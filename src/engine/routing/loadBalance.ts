import type { RoutingFidelityLayer } from "../../protocol/evaluation";

/**
 * How evenly a layer's experts are used. `frequency` is [E]: tokens routed to each expert.
 * Every function gives 0 for a layer without a routed token, except where said.
 */

/** [E] share of the layer's routed slots that went to each expert; sums to 1. */
export function utilisation(frequency: Float64Array): Float64Array {
  const total = frequency.reduce((sum, n) => sum + n, 0);
  return total > 0 ? frequency.map((n) => n / total) : new Float64Array(frequency.length);
}

/** Standard deviation over mean of the experts' frequencies (population form, as load-balance papers use). */
export function coefficientOfVariation(frequency: Float64Array): number {
  const mean = frequency.reduce((sum, n) => sum + n, 0) / frequency.length;
  if (mean === 0) return 0;
  const variance = frequency.reduce((sum, n) => sum + (n - mean) ** 2, 0) / frequency.length;
  return Math.sqrt(variance) / mean;
}

/** Entropy of the utilisation over log(E): 1 is even load, 0 one expert for everything. A single expert counts as even. */
export function normalisedEntropy(frequency: Float64Array): number {
  if (frequency.length < 2) return 1;
  const entropy = utilisation(frequency).reduce((sum, share) => sum - (share > 0 ? share * Math.log(share) : 0), 0);
  return entropy / Math.log(frequency.length);
}

/** Ids of experts that no token reached, ascending. */
export function neverUsed(frequency: Float64Array): number[] {
  return Array.from(frequency.keys()).filter((expert) => frequency[expert] === 0);
}

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
