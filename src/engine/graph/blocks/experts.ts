import type { ExpertWeights, MlpDescription, MoeDescription } from "../../model/description";
import type { ExpertAssignment } from "../builder";
import type { Value } from "../graph";
import { intermediate } from "./mlp";
import type { BlockWeights } from "./weights";

/**
 * Output of the routed experts for tokens x [T, H]: sum over each token's selected experts of weight * f_e(x), [T, H].
 * Every expert runs once, on its own tokens. The weight multiplies the intermediate activation, which the down projection
 * carries to the output: fewer columns than the output, and its gradient needs no down projection of the forward pass.
 *
 * @param routingWeights [T, k]
 */
export function routedExperts(
  weights: BlockWeights,
  x: Value,
  routingWeights: Value,
  moe: MoeDescription,
  assignment: ExpertAssignment,
) {
  const { builder } = weights;
  const rows = builder.dispatch(x, assignment);
  const rowWeights = weightsOfRows(weights, routingWeights, assignment);
  const outputs = moe.experts.map((expert, e) => {
    if (expert.constant) return builder.mul(rowWeights[e]!, weights.float(expert.constant));
    const { weight, bias, layout } = expert.downProj;
    const weighted = builder.mul(intermediate(weights, rows[e]!, expert, moe.activation), rowWeights[e]!);
    const product = weights.linear(weighted, { weight, bias: null, layout });
    return bias === null ? product : builder.add(product, builder.mul(rowWeights[e]!, weights.float(bias)));
  });
  return builder.combine(outputs, assignment);
}

/** f_e(x) of every expert's rows, without routing weights: what profiling looks at. */
export function unweightedExperts(
  weights: BlockWeights,
  x: Value,
  moe: MoeDescription,
  assignment: ExpertAssignment,
): Value[] {
  const rows = weights.builder.dispatch(x, assignment);
  return moe.experts.map((expert, e) => expertOutput(weights, rows[e]!, expert, moe));
}

/** f_e(x) = down(act(gate x) * up x) for rows x. */
export function expertOutput(weights: BlockWeights, rows: Value, expert: ExpertWeights, moe: MoeDescription): Value {
  if (expert.constant) {
    return weights.builder.add(weights.builder.scale(rows, 0), weights.float(expert.constant));
  }
  return weights.linear(intermediate(weights, rows, expert, moe.activation), expert.downProj);
}

/** [T, k] to one column [rows, 1] per expert. */
export function weightsOfRows(weights: BlockWeights, perSlot: Value, assignment: ExpertAssignment): Value[] {
  const { builder } = weights;
  const column = builder.reshape(perSlot, [assignment.rowsDim, 1]);
  const byRow = builder.permuteRows(column, assignment.slotOfRow, assignment.rowOfSlot);
  return builder.splitRows(byRow, assignment.splitSizes, assignment.rowDims);
}

export function denseMlp(weights: BlockWeights, x: Value, mlp: MlpDescription): Value {
  return weights.linear(intermediate(weights, x, mlp.weights, mlp.activation), mlp.weights.downProj);
}

/** The experts that every token visits, scaled by their own sigmoid gate where the family has one; null without them. */
export function sharedExperts(weights: BlockWeights, x: Value, { shared }: MoeDescription): Value | null {
  if (shared === null) return null;
  const { builder } = weights;
  const output = denseMlp(weights, x, shared.mlp);
  return shared.gate === null ? output : builder.mul(output, builder.sigmoid(weights.linear(x, shared.gate)));
}
