import { createRandom } from "../tensor/random";
import {
  bootstrapMean,
  centralInterval,
  defaultResamples,
  type BootstrapInterval,
  type BootstrapOptions,
} from "./bootstrap";

/**
 * A quantity measured on the same held-out sequences after training with several seeds: how far another seed would be counts
 * as another text does.
 */
export interface SeedSums {
  /** By seed: [numSequences], summed over a sequence's counted positions. */
  sums: readonly ArrayLike<number>[];
  /** [numSequences] */
  tokens: ArrayLike<number>;
  /** [numSequences], which sequences are resampled together; absent: each by itself. */
  units?: ArrayLike<number>;
}

/**
 * Percentile bootstrap of a mean a token over seeds and sequences (two-way: each resample draws seeds and, apart, units with
 * replacement, and takes the mean over all pairs; Owen 2007, The pigeonhole bootstrap). It is wider than the truth rather than
 * narrower. One seed: the bootstrap over sequences alone.
 *
 * @throws `internal` as bootstrapMean
 */
export function bootstrapSeeds({ sums, tokens, units }: SeedSums, options: BootstrapOptions = {}): BootstrapInterval {
  const mean = Float64Array.from(tokens, (_, s) => sums.reduce((sum, one) => sum + one[s]!, 0) / sums.length);
  const one = bootstrapMean({ sums: mean, tokens, ...(units ? { units } : {}) }, options);
  if (sums.length === 1) return one;
  const { resamples = defaultResamples, seed = 42 } = options;
  const unitOf = units ?? Array.from(mean.keys());
  const numUnits = 1 + Array.from(unitOf).reduce((most, unit) => Math.max(most, unit), 0);
  const counts = new Float64Array(numUnits);
  const bySeed = sums.map(() => new Float64Array(numUnits));
  for (let s = 0; s < mean.length; s++) {
    counts[unitOf[s]!]! += tokens[s]!;
    for (const [i, values] of sums.entries()) bySeed[i]![unitOf[s]!]! += values[s]!;
  }
  const random = createRandom(seed);
  const means = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    const seeds = sums.map(() => bySeed[random.below(sums.length)]!);
    let [sum, count] = [0, 0];
    for (let draw = 0; draw < numUnits; draw++) {
      const unit = random.below(numUnits);
      for (const values of seeds) sum += values[unit]!;
      count += counts[unit]!;
    }
    means[r] = sum / (count * seeds.length);
  }
  return { mean: one.mean, interval95: centralInterval(means, 0.025) };
}
