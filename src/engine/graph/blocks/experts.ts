import type { ExpertWeights, MlpDescription, MoeDescription, SharedExperts } from "../../model/description";
import type { GraphBuilder } from "../builder";
import type { Value } from "../graph";
import { intermediate } from "./mlp";
import type { BlockWeights } from "./weights";

/**
 * The rows of x [T, H] that each expert takes, one value [rows, H] an expert: no copy of all rows exists.
 *
 * @param tokens [rows] of each expert
 */
export function dispatchRows(builder: GraphBuilder, x: Value, tokens: readonly Value[]): Value[] {
  return tokens.map((indices) => builder.gather(x, indices));
}

/**
 * Sums the rows of each token, slot by slot: rows [R, H] to [T, H].
 *
 * @param rowOfSlot [R] the row of each (token, slot), slots of a token one after another
 */
export function combineRows(
  builder: GraphBuilder,
  rows: Value,
  rowOfSlot: Value,
  { numExpertsPerToken: k }: Pick<MoeDescription, "numExpertsPerToken">,
): Value {
  const columns = builder.split(builder.reshape(rowOfSlot, ["T", k]), new Array<number>(k).fill(1), 1);
  return columns
    .map((column) => builder.gather(rows, builder.reshape(column, ["T"])))
    .reduce((sum, slot) => builder.add(sum, slot));
}

/**
 * weight * f_e(x) for an expert's rows x [rows, H] and their routing weights [rows, 1]. The weight multiplies the
 * intermediate activation, which the down projection carries to the output: fewer columns than the output, and its
 * gradient needs no down projection of the forward pass. Where weights go to the input, f_e(weight * x).
 *
 * @param mask [1, I], 0 for units that are to do nothing
 */
export function weightedExpertOutput(
  weights: BlockWeights,
  rows: Value,
  rowWeights: Value,
  expert: ExpertWeights,
  moe: MoeDescription,
  mask?: Value,
): Value {
  const { builder } = weights;
  if (moe.weightsInput) return expertOutput(weights, builder.mul(rows, rowWeights), expert, moe, mask);
  if (expert.constant) return builder.mul(rowWeights, weights.float(expert.constant));
  const { weight, bias, layout } = expert.downProj;
  const weighted = builder.mul(downInput(weights, rows, expert, moe, mask), rowWeights);
  const product = weights.linear(weighted, { weight, bias: null, layout });
  return bias === null ? product : builder.add(product, builder.mul(rowWeights, weights.float(bias)));
}

/** f_e(x) = down(act(gate x) * up x) for rows x. */
export function expertOutput(
  weights: BlockWeights,
  rows: Value,
  expert: ExpertWeights,
  moe: MoeDescription,
  mask?: Value,
): Value {
  if (expert.constant) {
    return weights.builder.add(weights.builder.scale(rows, 0), weights.float(expert.constant));
  }
  return weights.linear(downInput(weights, rows, expert, moe, mask), expert.downProj);
}

/** act(gate x) * up x; with rounded activations what gate and up read, and this, are rounded. */
function downInput(
  weights: BlockWeights,
  rows: Value,
  expert: ExpertWeights,
  { activations, activation }: MoeDescription,
  mask?: Value,
): Value {
  const { builder } = weights;
  const units = (x: Value) => {
    const all = intermediate(weights, x, expert, activation);
    return mask === undefined ? all : builder.mul(all, mask);
  };
  if (activations === undefined) return units(rows);
  return builder.roundTokens(units(builder.roundTokens(rows, activations)), activations);
}

export function denseMlp(weights: BlockWeights, x: Value, mlp: MlpDescription): Value {
  return weights.linear(intermediate(weights, x, mlp.weights, mlp.activation), mlp.weights.downProj);
}

/** The experts that every token visits, scaled by their own sigmoid gate where the family has one. */
export function sharedExperts(weights: BlockWeights, x: Value, shared: SharedExperts): Value {
  const { builder } = weights;
  const input = weights.norm(x, shared.inputNorm ?? null);
  const output = weights.norm(denseMlp(weights, input, shared.mlp), shared.outputNorm ?? null);
  return shared.gate === null ? output : builder.mul(output, builder.sigmoid(weights.linear(input, shared.gate)));
}
