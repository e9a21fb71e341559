import type { GroupedQueryAttention } from "./description";
import type { DecoderSizes } from "./decoder";
import type { Weights } from "./weights";

export interface GroupedQueryOptions {
  sizes: DecoderSizes;
  /** Biases of the query, key and value projections, and of the output projection. */
  inputBias: boolean;
  outputBias: boolean;
  slidingWindow: number | null;
  /** Default: headDim^-1/2. */
  scale?: number;
  norms?: { query: string; key: string; scope: "head" | "projection"; afterRotary: boolean } | null;
  clip?: number | null;
  sinks?: boolean;
}

/** Grouped-query attention (Ainslie et al., arXiv 2305.13245) under `<prefix>.{q,k,v,o}_proj`. */
export function readGroupedQuery(
  weights: Weights,
  prefix: string,
  options: GroupedQueryOptions,
): GroupedQueryAttention {
  const { sizes, norms } = options;
  const { hiddenSize, numHeads, numKeyValueHeads, headDim, normEpsilon } = sizes;
  const queries = numHeads * headDim;
  const keys = numKeyValueHeads * headDim;
  const because =
    `hidden_size = ${hiddenSize}, num_attention_heads = ${numHeads}, num_key_value_heads = ${numKeyValueHeads}, ` +
    `head_dim = ${headDim}`;
  const input = { bias: options.inputBias, because };
  const norm = (name: string, projection: number) =>
    weights.rmsNorm(`${prefix}.${name}`, norms?.scope === "projection" ? projection : headDim, normEpsilon, because);
  return {
    kind: "grouped-query",
    numHeads,
    numKeyValueHeads,
    headDim,
    scale: options.scale ?? headDim ** -0.5,
    slidingWindow: options.slidingWindow,
    query: weights.linear(`${prefix}.q_proj`, hiddenSize, queries, input),
    key: weights.linear(`${prefix}.k_proj`, hiddenSize, keys, input),
    value: weights.linear(`${prefix}.v_proj`, hiddenSize, keys, input),
    output: weights.linear(`${prefix}.o_proj`, queries, hiddenSize, { bias: options.outputBias, because }),
    queryNorm: norms ? norm(norms.query, queries) : null,
    keyNorm: norms ? norm(norms.key, keys) : null,
    normScope: norms?.scope ?? "head",
    normAfterRotary: norms?.afterRotary ?? false,
    clip: options.clip ?? null,
    sinks: options.sinks ? weights.view(`${prefix}.sinks`, [numHeads], because) : null,
  };
}
