import type { ShortConv, WeightView } from "../../model/description";
import type { Value } from "../graph";
import type { AttentionInputs } from "./attentionHeads";
import type { BlockWeights } from "./weights";

/**
 * Depthwise causal convolution over each sequence: y_t = sum_k w_k x_(t - K + 1 + k), with zeros before its first token,
 * or beside a past with the inputs `inputs` that it kept.
 *
 * @param x [B, S, channels]
 * @param weight [channels, 1, K]
 */
export function causalConv(
  weights: BlockWeights,
  x: Value,
  weight: WeightView,
  bias: WeightView | null,
  past: AttentionInputs["past"],
): Value {
  const { builder } = weights;
  const [channels, , kernel] = weight.shape as [number, number, number];
  const s = x.shape[1] as number;
  const taps = builder.split(
    builder.transpose(builder.reshape(weights.float(weight), [channels, kernel]), [1, 0]),
    new Array<number>(kernel).fill(1),
    0,
  );
  past?.keep("inputs", x);
  const padded =
    past === undefined
      ? builder.pad(x, 1, kernel - 1, 0)
      : builder.concat([past.state("inputs", [kernel - 1, channels]), x], 1);
  const sum = taps
    .map((tap, k) => builder.mul(builder.slice(padded, 1, k, k + s), tap))
    .reduce((total, part) => builder.add(total, part));
  return bias === null ? sum : builder.add(sum, weights.float(bias));
}

/** Gated short convolution (LFM2, arXiv 2511.23404): out(C * conv(B * x)) with B, C and x from one projection, [T, H]. */
export function shortConv(
  weights: BlockWeights,
  x: Value,
  conv: ShortConv,
  { sequenceLength, past }: Pick<AttentionInputs, "sequenceLength" | "past">,
): Value {
  const { builder } = weights;
  const width = conv.channels;
  const [before, after, value] = builder.split(weights.linear(x, conv.input), [width, width, width], 1);
  const gated = builder.reshape(builder.mul(before!, value!), ["B", sequenceLength, width]);
  const mixed = builder.reshape(causalConv(weights, gated, conv.weight, conv.bias, past), ["T", width]);
  return weights.linear(builder.mul(after!, mixed), conv.output);
}
