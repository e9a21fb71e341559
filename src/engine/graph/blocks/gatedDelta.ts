import type { GatedDelta } from "../../model/description";
import type { GraphBuilder } from "../builder";
import type { Value } from "../graph";
import { unitLowerInverse } from "../unitLowerInverse";
import type { AttentionInputs } from "./attentionHeads";
import { causalConv } from "./causalConv";
import type { BlockWeights } from "./weights";

/** Added to what the causal order hides before its exponential is taken. */
const hidden = -1e30;

/** Tokens of a chunk: within it, products of matrices; between chunks, the state. Costs least at 32 for heads of 128. */
const chunkTokens = 32;

/** Chunks of a sequence, which come one after another. */
export function gatedDeltaChunks(sequenceLength: number): number {
  return Math.ceil(sequenceLength / chunkTokens);
}

/** Linear attention by the gated delta rule, over normalised rows x [T, H]; returns [T, H]. */
export function gatedDelta(
  weights: BlockWeights,
  x: Value,
  layer: GatedDelta,
  { sequenceLength, past }: Pick<AttentionInputs, "sequenceLength" | "past">,
): Value {
  const { builder } = weights;
  const { numKeyHeads, numValueHeads, keyHeadDim, valueHeadDim } = layer;
  const keys = numKeyHeads * keyHeadDim;
  const values = numValueHeads * valueHeadDim;
  const { mixed, gate, beta, time } = projections(weights, x, layer);
  const sequences = builder.reshape(mixed, ["B", sequenceLength, 2 * keys + values]);
  const convolved = swish(builder, causalConv(weights, sequences, layer.conv, null, past));
  const [query, key, value] = builder.split(convolved, [keys, keys, values], 2);
  // log decay = -exp(A) softplus(time + bias)
  const shifted = builder.add(time, weights.float(layer.timeBias));
  const step = builder.append("Softplus", [shifted], {}, shifted.type, shifted.shape);
  const logDecay = builder.neg(builder.mul(builder.exp(weights.float(layer.logRate)), step));

  const perKey = numValueHeads / numKeyHeads;
  // x / sqrt(sum(x^2) + 1e-6), written as the norm with the mean of squares.
  const unit = (rows: Value, scale: number) =>
    builder.rmsNorm(
      builder.reshape(rows, ["B", sequenceLength, numKeyHeads, keyHeadDim]),
      builder.constant(new Array<number>(keyHeadDim).fill(scale * keyHeadDim ** -0.5), [keyHeadDim]),
      1e-6 / keyHeadDim,
    );
  // Tokens that only fill up a sequence leave its state as it is.
  const valid = past && builder.reshape(past.valid(sequenceLength), ["B", sequenceLength, 1, 1]);
  const counted = (numbers: Value) => (valid === undefined ? numbers : builder.mul(numbers, valid));
  const initial = past?.state("state", [numKeyHeads, perKey, keyHeadDim, valueHeadDim]);
  const { output, state } = gatedDeltaRule(builder, {
    query: unit(query!, keyHeadDim ** -0.5),
    key: unit(key!, 1),
    value: builder.reshape(value!, ["B", sequenceLength, numKeyHeads, perKey, valueHeadDim]),
    logDecay: counted(builder.reshape(logDecay, ["B", sequenceLength, numKeyHeads, perKey])),
    beta: counted(builder.reshape(builder.sigmoid(beta), ["B", sequenceLength, numKeyHeads, perKey])),
    ...(initial && { initial }),
  });
  if (state !== null) past?.keep("state", state);
  const rows = builder.reshape(output, ["T", numValueHeads, valueHeadDim]);
  const normed = weights.norm(rows, layer.outputNorm);
  const gated = builder.mul(normed, swish(builder, builder.reshape(gate, ["T", numValueHeads, valueHeadDim])));
  return weights.linear(builder.reshape(gated, ["T", values]), layer.output);
}

export interface DeltaInputs {
  /** [B, S, key heads, K]; queries hold their scale. */
  query: Value;
  key: Value;
  /** [B, S, key heads, value heads a key head, V] */
  value: Value;
  /** [B, S, key heads, value heads a key head], at most 0. */
  logDecay: Value;
  beta: Value;
  /** [B, key heads, value heads a key head, K, V]: the state to begin with; absent: zeros. */
  initial?: Value;
}

/**
 * The gated delta rule (Yang et al., arXiv 2412.06464): a head's state S [K, V] starts as zeros and at each token becomes
 * a S + k (beta (v - (a S)^T k))^T with a = e^logDecay; the token's output is S^T q.
 *
 * In chunks (arXiv 2406.06484): with c_i the log decay summed from the chunk's start, the update of token i is
 * beta_i (v_i - e^c_i S^T k_i - sum_(j<i) e^(c_i - c_j) (k_i . k_j) u_j), so that all of a chunk are
 * u = (I + L)^-1 (beta v - beta e^c k S) with L_ij = beta_i e^(c_i - c_j) k_i . k_j below the diagonal.
 *
 * @returns [B, S, key heads, value heads a key head, V], and where there was a state to begin with the one behind the last
 * token
 */
export function gatedDeltaRule(
  builder: GraphBuilder,
  inputs: DeltaInputs,
  chunk = chunkTokens,
): { output: Value; state: Value | null } {
  const s = inputs.value.shape[1] as number;
  const c = Math.min(chunk, s);
  const n = Math.ceil(s / c);
  const [, , groups, perKey, valueDim] = inputs.value.shape as [string, number, number, number, number];
  /** [B, S, ...rest] -> [B, ...leading, chunks, C, ...] with zeros behind the last token, which change nothing. */
  const chunked = (x: Value, permutation: readonly number[]) => {
    const padded = n * c === s ? x : builder.pad(x, 1, 0, n * c - s);
    return builder.transpose(builder.reshape(padded, ["B", n, c, ...x.shape.slice(2)]), permutation);
  };
  // [B, groups, 1, chunks, C, K]
  const [query, key] = [inputs.query, inputs.key].map((x) => builder.unsqueeze(chunked(x, [0, 3, 1, 2, 4]), [2]));
  // [B, groups, heads, chunks, C, V] and [B, groups, heads, chunks, C]
  const value = chunked(inputs.value, [0, 3, 4, 1, 2, 5]);
  const beta = chunked(inputs.beta, [0, 3, 4, 1, 2]);
  const square = (of: (row: number, column: number) => number) =>
    builder.constant(
      Array.from({ length: c * c }, (_, i) => of(Math.floor(i / c), i % c)),
      [c, c],
    );
  const sums = builder.matMul(
    chunked(inputs.logDecay, [0, 3, 4, 1, 2]),
    square((token, end) => (token <= end ? 1 : 0)),
  );
  const [column, row] = [builder.unsqueeze(sums, [5]), builder.unsqueeze(sums, [4])];
  const causal = square((token, seen) => (seen <= token ? 0 : hidden));
  const decay = builder.exp(builder.add(builder.sub(column, row), causal));
  const fromStart = builder.exp(column);

  const overlap = builder.mul(builder.matMul(key!, key!, false, true), decay);
  const solve = unitLowerInverse(builder, builder.mul(overlap, builder.unsqueeze(beta, [5])));
  const solveBeta = builder.mul(solve, builder.unsqueeze(beta, [4]));
  // u = own - fromState S
  const own = builder.matMul(solveBeta, value);
  const fromState = builder.matMul(builder.mul(solveBeta, builder.exp(row)), key!);
  const last = builder.slice(sums, 4, c - 1, c);
  const toEnd = builder.exp(builder.unsqueeze(builder.sub(last, sums), [5]));
  const whole = builder.exp(builder.unsqueeze(last, [5]));

  const each = (x: Value) => (n === 1 ? [x] : builder.split(x, new Array<number>(n).fill(1), 3));
  const [owns, fromStates, keys, toEnds, wholes] = [own, fromState, key!, toEnd, whole].map(each);
  /** The state that each chunk begins with; null: zeros. */
  const states: (Value | null)[] = [inputs.initial ? builder.unsqueeze(inputs.initial, [3]) : null];
  const updates: Value[] = [];
  const update = (i: number) => {
    const state = states[i]!;
    updates.push(state === null ? owns![i]! : builder.sub(owns![i]!, builder.matMul(fromStates![i]!, state)));
  };
  const carry = (i: number) => {
    const added = builder.matMul(keys![i]!, builder.mul(toEnds![i]!, updates[i]!), true, false);
    const state = states[i]!;
    states.push(state === null ? added : builder.add(builder.mul(state, wholes![i]!), added));
  };
  update(0);
  for (let i = 1; i < n; i++) {
    carry(i - 1);
    update(i);
  }
  const inside = builder.matMul(
    builder.mul(builder.matMul(query!, key!, false, true), decay),
    builder.concat(updates, 3),
  );
  const seen = states.filter((state) => state !== null);
  const output = seen.length === 0 ? inside : builder.add(inside, seenStates(builder, query!, fromStart, seen, n));
  const tokens = builder.reshape(builder.transpose(output, [0, 3, 4, 1, 2, 5]), ["B", n * c, groups, perKey, valueDim]);
  if (inputs.initial) carry(n - 1);
  return {
    output: n * c === s ? tokens : builder.slice(tokens, 1, 0, s),
    state: inputs.initial ? builder.squeeze(states[n]!, [3]) : null,
  };
}

/** e^c S^T q of each of n chunks; zeros in the first one where its state is. */
function seenStates(builder: GraphBuilder, query: Value, fromStart: Value, states: readonly Value[], n: number): Value {
  const first = n - states.length;
  const behind = (x: Value) => (first === 0 ? x : builder.slice(x, 3, first, n));
  const seen = builder.mul(builder.matMul(behind(query), builder.concat(states, 3)), behind(fromStart));
  return first === 0 ? seen : builder.pad(seen, 3, first, 0);
}

/**
 * Numbers that a run holds of each token: projections with their convolutions, matrices of a chunk's tokens by each other,
 * updates and what they come from, and the state that every chunk leaves.
 */
export function gatedDeltaNumbersPerToken(layer: GatedDelta, sequenceLength: number): number {
  const { numKeyHeads, numValueHeads, keyHeadDim, valueHeadDim } = layer;
  const chunk = Math.min(chunkTokens, sequenceLength);
  const channels = 2 * numKeyHeads * keyHeadDim + numValueHeads * valueHeadDim;
  const states = (3 * keyHeadDim * valueHeadDim) / chunk;
  return 8 * channels + numValueHeads * (6 * chunk + 6 * (keyHeadDim + valueHeadDim) + states);
}

/** The rows of q, k and v one beside the other, those of the output's gate, and beta and time before their functions. */
function projections(weights: BlockWeights, x: Value, layer: GatedDelta) {
  const { builder } = weights;
  const { numKeyHeads, numValueHeads, keyHeadDim, valueHeadDim, input } = layer;
  const project = (linear: typeof layer.output) => weights.linear(x, linear);
  if (input.kind === "separate") {
    return {
      mixed: project(input.queryKeyValue),
      ...{ gate: project(input.gate), beta: project(input.beta), time: project(input.time) },
    };
  }
  // Qwen3-Next stores them key head by key head.
  const perKey = numValueHeads / numKeyHeads;
  const byHead = (rows: Value, sizes: number[]) => {
    const width = sizes.reduce((sum, size) => sum + size, 0);
    const parts = builder.split(builder.reshape(rows, ["T", numKeyHeads, width]), sizes, 2);
    return parts.map((part, i) => builder.reshape(part, ["T", numKeyHeads * sizes[i]!]));
  };
  const wide = perKey * valueHeadDim;
  const [query, key, value, gate] = byHead(project(input.queryKeyValueGate), [keyHeadDim, keyHeadDim, wide, wide]);
  const [beta, time] = byHead(project(input.betaTime), [perKey, perKey]);
  return { mixed: builder.concat([query!, key!, value!], 1), gate: gate!, beta: beta!, time: time! };
}

function swish(builder: GraphBuilder, x: Value): Value {
  return builder.mul(x, builder.sigmoid(x));
}
