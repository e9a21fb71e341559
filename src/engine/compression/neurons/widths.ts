import { RerouteError } from "../../../protocol/errors";

/** What kernels of servers want the width of experts to be a multiple of. */
const kernelMultiple = 64;

/** 64, or the largest power of two up to an eighth of the width where that is less. */
export function defaultMultiple(width: number): number {
  return Math.min(kernelMultiple, 2 ** Math.max(0, Math.floor(Math.log2(width / 8))));
}

/**
 * Width of experts that keep a share, rounded to the nearest multiple (at least one).
 * @throws RerouteError plan/invalid where nothing would leave
 */
export function keptWidth(keep: number, width: number, multiple: number): number {
  if (keep === 1) return width;
  const kept = Math.max(1, Math.round((keep * width) / multiple)) * multiple;
  if (kept < width) return kept;
  const most = Math.ceil(width / multiple - 1) * multiple;
  throw new RerouteError(
    "plan/invalid",
    most > 0
      ? `keep ${keep} of ${width} intermediate units rounds to ${kept}, a multiple of ${multiple}, so nothing would leave; keep at most ${most} of them (${(most / width).toFixed(4)}), or set multiple`
      : `Experts of width ${width} have no smaller multiple of ${multiple}; set multiple to ${defaultMultiple(width)}`,
  );
}

/** One layer's units with their scores, [I] of each expert. */
export interface ScoredLayer {
  layer: number;
  scores: readonly Float64Array[];
}

/** Ids of the highest `count` scores, ascending; of equal ones the lower ids. */
export function highest(scores: Float64Array, count: number): number[] {
  const order = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}

/**
 * Width of each layer at the same total as the `wanted` ones: what the last units of a layer add to the score, summed
 * over its experts, decides which layer gets its next `multiples` units. Scores count as shares of their layer's sum.
 */
export function layerWidths(
  layers: readonly ScoredLayer[],
  wanted: readonly number[],
  multiples: readonly number[],
): number[] {
  // Values of the 1st, 2nd ... best unit of all experts together.
  const curves = layers.map(({ scores }) => {
    const sorted = scores.map((own) => own.slice().sort().reverse());
    const total = sorted.reduce((sum, own) => sum + own.reduce((a, b) => a + b, 0), 0);
    return Float64Array.from(sorted[0]!, (_, rank) => sorted.reduce((sum, own) => sum + own[rank]!, 0) / (total || 1));
  });
  const widths = [...multiples];
  let left = layers.reduce((sum, { scores }, i) => sum + scores.length * (wanted[i]! - multiples[i]!), 0);
  const gain = (i: number) => {
    const to = widths[i]! + multiples[i]!;
    return to > curves[i]!.length ? -1 : curves[i]!.subarray(widths[i], to).reduce((sum, value) => sum + value, 0);
  };
  for (;;) {
    const open = layers.flatMap(({ scores }, i) => (gain(i) >= 0 && scores.length * multiples[i]! <= left ? [i] : []));
    if (open.length === 0) return widths;
    const next = open.reduce((best, i) => (gain(i) > gain(best) ? i : best), open[0]!);
    widths[next]! += multiples[next]!;
    left -= layers[next]!.scores.length * multiples[next]!;
  }
}

/** Width of each expert where the units of all given experts are ranked together and `count` of them stay; at least 1 each. */
export function rankedWidths(scores: readonly Float64Array[], count: number): number[] {
  const sorted = scores.map((own) => own.slice().sort().reverse());
  const rest = sorted
    .flatMap((own, e) => Array.from(own.subarray(1), (value) => ({ value, e })))
    .sort((a, b) => b.value - a.value || a.e - b.e);
  const widths = scores.map(() => 1);
  for (const { e } of rest.slice(0, Math.max(0, count - scores.length))) widths[e]!++;
  return widths;
}
