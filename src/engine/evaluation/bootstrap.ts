import { RerouteError } from "../../protocol/errors";
import { createRandom } from "../tensor/random";

/**
 * A quantity measured on every held-out sequence. Tokens of one sequence depend on each other, sequences of a text much less:
 * so sequences are what is resampled.
 */
export interface SequenceSums {
  /** [numSequences], the quantity summed over the counted positions of a sequence, for example nats. */
  sums: ArrayLike<number>;
  /** [numSequences], counted positions of a sequence, above 0. */
  tokens: ArrayLike<number>;
}

export interface BootstrapOptions {
  /** 10,000 by default: the interval's ends then vary by about 2 % of its width from seed to seed. */
  resamples?: number;
  seed?: number;
}

/** A mean a token with its 95 % interval. */
export interface BootstrapInterval {
  mean: number;
  /** [2.5 % quantile, 97.5 % quantile] of the resampled means. */
  interval95: [number, number];
}

export const defaultResamples = 10_000;
const defaultSeed = 42;
const tail = 0.025;

/**
 * Percentile bootstrap of a mean a token (Efron and Tibshirani 1993, chapter 13): sequences are drawn with replacement, and
 * each resample's mean is sum(sums) / sum(tokens), so that a long sequence counts for its tokens. Exactly antisymmetric:
 * negated sums give the negated interval. One sequence gives an interval of width 0, which says nothing.
 *
 * @throws `internal` when there is no sequence, lengths differ, a sum is not finite or a count not positive
 */
export function bootstrapMean({ sums, tokens }: SequenceSums, options: BootstrapOptions = {}): BootstrapInterval {
  checkSums(sums, tokens);
  const { resamples = defaultResamples, seed = defaultSeed } = options;
  const numSequences = sums.length;
  const random = createRandom(seed);
  const means = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    let sum = 0;
    let count = 0;
    for (let draw = 0; draw < numSequences; draw++) {
      const sequence = random.below(numSequences);
      sum += sums[sequence]!;
      count += tokens[sequence]!;
    }
    means[r] = sum / count;
  }
  return { mean: total(sums) / total(tokens), interval95: centralInterval(means) };
}

/**
 * Paired bootstrap of the mean a token of `before - after`, both measured on the same positions of the same sequences:
 * whatever makes a sequence hard for both cancels out. Positive is better where less is better.
 *
 * @throws `internal` as {@link bootstrapMean}
 */
export function bootstrapDifference(
  before: ArrayLike<number>,
  after: ArrayLike<number>,
  tokens: ArrayLike<number>,
  options: BootstrapOptions = {},
): BootstrapInterval {
  if (before.length !== after.length) {
    throw new RerouteError(
      "internal",
      `a paired comparison got ${before.length} sequences before and ${after.length} after, expected the same`,
    );
  }
  return bootstrapMean({ sums: Float64Array.from(before, (sum, s) => sum - after[s]!), tokens }, options);
}

/** Both ends are interpolated from their own side (quantile type 7), so that negated values give exactly the negated interval. */
function centralInterval(values: Float64Array): [number, number] {
  values.sort();
  const last = values.length - 1;
  const position = last * tail;
  const index = Math.floor(position);
  const fraction = position - index;
  const between = (from: number, to: number) => from + (to - from) * fraction;
  const lower = between(values[index]!, values[Math.min(index + 1, last)]!);
  const upper = between(values[last - index]!, values[Math.max(last - index - 1, 0)]!);
  return [lower, upper];
}

function total(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum;
}

function checkSums(sums: ArrayLike<number>, tokens: ArrayLike<number>): void {
  if (sums.length === 0 || sums.length !== tokens.length) {
    throw new RerouteError(
      "internal",
      `a bootstrap got ${sums.length} sums and ${tokens.length} token counts, expected equally many and at least 1`,
    );
  }
  for (let s = 0; s < sums.length; s++) {
    if (Number.isFinite(sums[s]) && tokens[s]! > 0) continue;
    throw new RerouteError(
      "internal",
      `a bootstrap got the sum ${sums[s]!} over ${tokens[s]!} tokens for sequence ${s}, expected a finite sum over 1 or more`,
    );
  }
}
