import type { Checkpoint } from "../../checkpoint/checkpoint";
import type { ExpertGroup } from "../../execution/expertGroups";
import { expertOutput } from "../../graph/blocks/experts";
import { intermediate } from "../../graph/blocks/mlp";
import { BlockWeights } from "../../graph/blocks/weights";
import { GraphBuilder } from "../../graph/builder";
import type { Graph, Value } from "../../graph/graph";
import type { ExpertWeights, LinearDescription, MoeDescription } from "../../model/description";

/**
 * The g experts of a group on every token. Inputs x [T, H], columnWeights [T, g], normWeights [T, g]; outputs
 * sums [g, H] = sum_t columnWeights_te f_e(x_t) and norms [g, 1] = sum_t normWeights_te ||f_e(x_t)||_2.
 */
export function everyTokenGraph(
  checkpoint: Checkpoint,
  moe: MoeDescription,
  { from, to }: ExpertGroup,
  hiddenSize: number,
): Graph {
  const builder = new GraphBuilder();
  const weights = new BlockWeights(builder, checkpoint);
  const x = builder.input("x", ["T", hiddenSize]);
  const experts = moe.experts.slice(from, to);
  const perExpert = (name: string) =>
    builder.split(
      builder.input(name, ["T", experts.length]),
      experts.map(() => 1),
      1,
    );
  const columns = perExpert("columnWeights");
  const normColumns = perExpert("normWeights");
  const outputs = experts.map((expert) => expertOutput(weights, x, expert, moe));
  const norm = (y: Value) => builder.sqrt(builder.reduceSum(builder.mul(y, y), [1], true));
  return builder.build({
    sums: builder.concat(
      outputs.map((output, e) => builder.gemm(columns[e]!, output, true)),
      0,
    ),
    norms: builder.concat(
      outputs.map((output, e) => builder.gemm(normColumns[e]!, norm(output), true)),
      0,
    ),
  });
}

/** Input x [T, H]; output y [T, D]: one expert's outputs, times a projection [H, D] where one is given. */
export function expertOutputGraph(
  checkpoint: Checkpoint,
  moe: MoeDescription,
  expert: number,
  hiddenSize: number,
  projectedSize: number | null,
): Graph {
  const builder = new GraphBuilder();
  const x = builder.input("x", ["T", hiddenSize]);
  const y = expertOutput(new BlockWeights(builder, checkpoint), x, moe.experts[expert]!, moe);
  return builder.build({
    y: projectedSize === null ? y : builder.matMul(y, builder.input("projection", [hiddenSize, projectedSize])),
  });
}

/**
 * The intermediate activation of an expert whose weights are given as inputs: x [T, H], gateProj and upProj [I, H] (and
 * gateBias, upBias [I]); output h [T, I]. One graph for all experts of a family.
 */
export function intermediateGraph(moe: MoeDescription, biased: boolean): Graph {
  const builder = new GraphBuilder();
  const given = new Map<string, Value>();
  const linear = (name: "gate" | "up"): LinearDescription => {
    given.set(`${name}Proj`, builder.input(`${name}Proj`, ["I", "H"]));
    if (biased) given.set(`${name}Bias`, builder.input(`${name}Bias`, ["I"]));
    const view = (tensor: string) => ({ tensor, offset: 0, shape: [], dtype: "F32" as const });
    return { weight: view(`${name}Proj`), bias: biased ? view(`${name}Bias`) : null, layout: "out-in" };
  };
  const gateProj = linear("gate");
  const upProj = linear("up");
  // All weights are inputs, so no checkpoint is ever asked for a tensor.
  const weights = new BlockWeights(builder, { tensors: new Map() } as unknown as Checkpoint, given);
  const expert: ExpertWeights = { gateUp: { kind: "separate", gateProj, upProj }, downProj: gateProj };
  const x = builder.input("x", ["T", "H"]);
  return builder.build({ h: intermediate(weights, x, expert, moe.activation) });
}

/** Input a [T, N]; outputs gram [N, N] = a^T a and sums [1, N]. */
export function gramGraph(): Graph {
  const builder = new GraphBuilder();
  const a = builder.input("a", ["T", "N"]);
  return builder.build({ gram: builder.gemm(a, a, true), sums: builder.reduceSum(a, [0], true) });
}

/** Inputs a [T, M], b [T, N]; output c [M, N] = a^T b. */
export function crossGraph(): Graph {
  const builder = new GraphBuilder();
  return builder.build({ c: builder.gemm(builder.input("a", ["T", "M"]), builder.input("b", ["T", "N"]), true) });
}

/** Inputs a [T, M], b [N, M]; output c [T, N] = a b^T. */
export function timesTransposedGraph(): Graph {
  const builder = new GraphBuilder();
  const a = builder.input("a", ["T", "M"]);
  return builder.build({ c: builder.gemm(a, builder.input("b", ["N", "M"]), false, true) });
}
