/** No layer and no expert keeps less than this. */
const leastShare = 0.05;

/**
 * Shares to keep whose mean is `keep` and which grow with `demand` (OWL, arXiv 2310.05175, as its code computes them):
 * D' = (D - min D) / (max D - min D) * 2 spread; share = D' - mean D' + keep, so that all lie within 2 spread of `keep`. Then
 * clipped to [0.05, 1]; what that adds or takes is spread evenly over the others.
 *
 * @param sizes parameters of each, which weigh the mean
 */
export function adaptiveShares(
  demand: readonly number[],
  keep: number,
  spread: number,
  sizes: readonly number[] = demand.map(() => 1),
): number[] {
  const [low, high] = [Math.min(...demand), Math.max(...demand)];
  const scaled = demand.map((value) => (high > low ? ((value - low) / (high - low)) * 2 * spread : 0));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const mean = (values: readonly number[]) => values.reduce((sum, value, i) => sum + value * sizes[i]!, 0) / total;
  const centre = mean(scaled);
  return spreadRest(
    scaled.map((value) => value - centre + keep),
    sizes,
    keep * total,
  );
}

/** Clips shares and moves the free ones until sum(share * size) is `wanted` again. */
function spreadRest(shares: number[], sizes: readonly number[], wanted: number): number[] {
  const least = Math.min(leastShare, wanted / sizes.reduce((sum, size) => sum + size, 0));
  const clip = (share: number) => Math.min(1, Math.max(least, share));
  let result = shares.map(clip);
  for (let round = 0; round < shares.length; round++) {
    const missing = wanted - result.reduce((sum, share, i) => sum + share * sizes[i]!, 0);
    if (Math.abs(missing) < 1e-12 * wanted) break;
    const free = result.map((share) => (missing > 0 ? share < 1 : share > least));
    const room = sizes.reduce((sum, size, i) => sum + (free[i] ? size : 0), 0);
    if (room === 0) break;
    result = result.map((share, i) => (free[i] ? clip(share + missing / room) : share));
  }
  return result;
}
