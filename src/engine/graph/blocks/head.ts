import type { ModelDescription } from "../../model/description";
import type { Value } from "../graph";
import type { BlockWeights } from "./weights";

/** Vocabulary logits [T, V] of final normalised hidden states [T, H]. */
export function vocabularyLogits(weights: BlockWeights, hidden: Value, { head }: ModelDescription): Value {
  const logits = weights.linear(hidden, { weight: head.weight, bias: head.bias, layout: "out-in" });
  const scaled = weights.builder.scale(logits, head.scale);
  if (head.softcap === undefined) return scaled;
  return weights.builder.scale(weights.builder.tanh(weights.builder.scale(scaled, 1 / head.softcap)), head.softcap);
}

/** KL(teacher || student) of each row, [T, 1], from logits [T, V], at a temperature: sum_v p_T (log p_T - log p_S). */
export function rowKl(weights: BlockWeights, teacherLogits: Value, studentLogits: Value, temperature: number): Value {
  const { builder } = weights;
  return builder.softmaxKl(
    builder.scale(teacherLogits, 1 / temperature),
    builder.scale(studentLogits, 1 / temperature),
  );
}

/** -log p(label) of each row, [T, 1]; labels int64 [T, 1]. */
export function rowNll(weights: BlockWeights, logits: Value, labels: Value): Value {
  const { builder } = weights;
  return builder.neg(builder.gatherElements(builder.logSoftmax(logits), labels, 1));
}
