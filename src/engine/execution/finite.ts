import { RerouteError } from "../../protocol/errors";

/**
 * Stops at the first layer whose outputs are not numbers: every layer after it would be as well, and none could be
 * named. One pass over rows that took thousands of operations an element to compute.
 *
 * @throws RerouteError `checkpoint/not-finite`
 */
export function checkLayerOutput(values: Float32Array, layer: number, part: "attention" | "feed-forward part"): void {
  if (isFiniteThroughout(values)) return;
  throw new RerouteError(
    "checkpoint/not-finite",
    `the ${part} of layer ${layer} gives NaN or infinity; check the weights of this layer`,
  );
}

/** 0 times NaN or infinity is NaN, so the sum tells without a branch an element. */
export function isFiniteThroughout(values: Float32Array): boolean {
  let zero = 0;
  for (let i = 0; i < values.length; i++) zero += 0 * values[i]!;
  return zero === 0;
}
