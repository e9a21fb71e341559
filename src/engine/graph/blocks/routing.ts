import type { RoutingDescription } from "../../model/description";
import type { GraphBuilder } from "../builder";
import type { Value } from "../graph";

/**
 * Routing weights [T, k] of the selected experts, differentiable in the router logits [T, E]. Which experts are selected
 * (`ids`, int64 [T, k]) is given: top-k has no gradient.
 *
 * @param ownIds [T, own k] what the family's own rule selects, where the routing keeps its mass
 */
export function routingWeightsBlock(
  builder: GraphBuilder,
  logits: Value,
  ids: Value,
  routing: RoutingDescription,
  ownIds: Value | null = null,
): Value {
  if ("keepsMass" in routing && routing.keepsMass !== undefined) {
    const scores = routing.kind === "softmax" ? builder.softmax(logits) : builder.sigmoid(logits);
    const [chosen, own] = [ids, ownIds!].map((selected) => builder.gatherElements(scores, selected, 1));
    const mass = (weights: Value) => builder.reduceSum(weights, [1], true);
    return builder.scale(builder.mul(chosen!, builder.div(mass(own!), mass(chosen!))), routing.scalingFactor);
  }
  switch (routing.kind) {
    case "softmax": {
      const selected =
        routing.softmax === "before"
          ? builder.gatherElements(builder.softmax(logits), ids, 1)
          : builder.softmax(builder.gatherElements(logits, ids, 1));
      return scaled(builder, selected, routing);
    }
    case "sigmoid":
      return scaled(builder, builder.gatherElements(builder.sigmoid(logits), ids, 1), {
        ...routing,
        epsilonMode: "add",
      });
    case "sparse-mixer":
      return sparseMixer(builder, logits, ids, routing.jitter);
  }
}

function scaled(
  builder: GraphBuilder,
  weights: Value,
  rule: { renormalise: boolean; epsilon: number; epsilonMode: "add" | "clamp"; scalingFactor: number },
): Value {
  if (!rule.renormalise) return builder.scale(weights, rule.scalingFactor);
  const sum = builder.reduceSum(weights, [1], true);
  const divisor =
    rule.epsilon === 0
      ? sum
      : rule.epsilonMode === "add"
        ? builder.add(sum, builder.constant([rule.epsilon]))
        : builder.clip(sum, rule.epsilon, 3.4e38);
  return builder.scale(builder.div(weights, divisor), rule.scalingFactor);
}

/**
 * PhiMoE's SparseMixer in evaluation mode: the first expert's weight is a softmax over the logits within a relative
 * margin of 2 * jitter of the maximum, the second's the same with the first expert left out. Margins are conditions, so
 * no gradient flows through them.
 */
function sparseMixer(builder: GraphBuilder, logits: Value, ids: Value, jitter: number): Value {
  const excluded = builder.constant([-1e30]);
  const nearMaximum = (candidates: Value) => {
    const maximum = builder.reduceMax(candidates, [1], true);
    const size = builder.abs(logits);
    const divisor = builder.where(builder.less(size, maximum), maximum, size);
    const gap = builder.div(builder.sub(maximum, logits), divisor);
    const tooFar = builder.less(builder.constant([2 * jitter]), gap);
    return { maximum, probabilities: builder.softmax(builder.where(tooFar, excluded, candidates)) };
  };
  const first = nearMaximum(logits);
  const isFirst = builder.lessOrEqual(first.maximum, logits);
  const second = nearMaximum(builder.where(isFirst, excluded, logits));
  return builder.gatherElements(builder.where(isFirst, first.probabilities, second.probabilities), ids, 1);
}
