import type { ExpertWeights, GatedActivation } from "../../model/description";
import type { GraphBuilder } from "../builder";
import type { Value } from "../graph";
import type { BlockWeights } from "./weights";

/** act(gate) * up: the intermediate activation of an expert or a dense MLP, [rows, intermediate]. */
export function intermediate(
  weights: BlockWeights,
  x: Value,
  { gateUp }: ExpertWeights,
  activation: GatedActivation,
): Value {
  const { builder } = weights;
  if (gateUp.kind === "separate") {
    return gated(builder, weights.linear(x, gateUp.gateProj), weights.linear(x, gateUp.upProj), activation);
  }
  const both = weights.linear(x, gateUp.projection);
  const width = both.shape[1] as number;
  if (gateUp.order === "interleaved") {
    return gated(builder, builder.slice(both, 1, 0, width, 2), builder.slice(both, 1, 1, width, 2), activation);
  }
  const [gate, up] = builder.split(both, [width / 2, width / 2], 1);
  return gated(builder, gate!, up!, activation);
}

function gated(builder: GraphBuilder, gate: Value, up: Value, activation: GatedActivation): Value {
  if (activation.kind === "clamped-swiglu") {
    const { limit, alpha } = activation;
    const clampedGate = builder.clip(gate, -3.4e38, limit);
    const clampedUp = builder.clip(up, -limit, limit);
    const swish = builder.mul(clampedGate, builder.sigmoid(builder.scale(clampedGate, alpha)));
    return builder.mul(swish, builder.add(clampedUp, builder.constant([1])));
  }
  switch (activation.activation) {
    case "silu":
      return builder.mul(builder.silu(gate), up);
    case "gelu": {
      // x/2 (1 + erf(x / sqrt 2))
      const erf = builder.erf(builder.scale(gate, Math.SQRT1_2));
      return builder.mul(builder.mul(builder.scale(gate, 0.5), builder.add(erf, builder.constant([1]))), up);
    }
    case "gelu-tanh": {
      // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
      const cube = builder.mul(builder.mul(gate, gate), gate);
      const inner = builder.scale(builder.add(gate, builder.scale(cube, 0.044715)), Math.sqrt(2 / Math.PI));
      return builder.mul(
        builder.mul(builder.scale(gate, 0.5), builder.add(builder.tanh(inner), builder.constant([1]))),
        up,
      );
    }
  }
}
