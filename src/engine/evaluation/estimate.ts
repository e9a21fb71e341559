import type { z } from "zod";
import type { estimate } from "../../protocol/evaluation";
import { bootstrapMean, type BootstrapOptions, type SequenceSums } from "./bootstrap";

/** A mean a token with half the width of its 95 % interval, as evaluation.json holds it. */
export type Estimate = z.infer<typeof estimate>;

/**
 * The mean a token of a quantity with its uncertainty over units of text. The bootstrap interval need not be symmetric; half its
 * width is what "mean +/- x" in a table can show.
 *
 * @throws `internal` as {@link bootstrapMean}
 */
export function estimateMean(values: SequenceSums, options: BootstrapOptions = {}): Estimate {
  const { mean, interval95 } = bootstrapMean(values, options);
  return { mean, halfWidth95: (interval95[1] - interval95[0]) / 2 };
}
