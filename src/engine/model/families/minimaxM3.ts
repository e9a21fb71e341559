import { readInt, readIntList, readNumber, readObject, type Config } from "../config";
import { decoderFamily, type FamilyContext } from "../decoderFamily";
import type { GroupedQueryAttention } from "../description";
import { mixtralNames } from "../expertTensors";
import { groupedQuery } from "../groupedQuery";
import { readTypes } from "../layerTypes";
import { sigmoidRouting } from "../routingRules";
import { number, size } from "../settings";
import { byLayerType, everyLayer } from "../sparseLayers";

/**
 * Norms that multiply by 1 + weight, gpt-oss's activation, a shared expert, and in some layers an index branch that chooses
 * blocks of keys.
 */
export const minimaxM3 = decoderFamily({
  modelType: "minimax_m3_vl_text",
  about: {
    architectures: [
      ...["MiniMaxM3VLForCausalLM", "MiniMaxM3ForCausalLM"],
      ...["MiniMaxM3SparseForCausalLM", "MiniMaxM3SparseForConditionalGeneration"],
    ],
    examples: "MiniMax-M3",
    attention: "grouped-query, index-selected",
    limits: "sequences in which all blocks are chosen",
  },
  sizes: {
    ...{ vocab: 200064, hidden: 6144, layers: 60, heads: 64, keyValueHeads: 4, headDim: 128 },
    ...{ positions: 524288, epsilon: 1e-6 },
  },
  only: {
    hidden_act: [["silu", "swigluoai"], "this family has one activation, whatever this says"],
    scoring_func: [["sigmoid"], "this family scores experts by a sigmoid"],
    use_routing_bias: [[true], "this family selects experts with a correction bias"],
  },
  norm: "rms plus one",
  attention: groupedQuery({
    // transformers reads partial_rotary_factor and no rotary_dim.
    rotary: { defaultTheta: 5_000_000, partialFactor: () => 1 },
    norms: { query: "q_norm", key: "k_norm", scope: "head", kind: "rms plus one" },
    indexer: readIndexer,
  }),
  feedForward: {
    sparse: byLayerType(everyLayer),
    dense: { size: size("dense_intermediate_size", 12288) },
    activation: (config) => ({
      kind: "clamped-swiglu",
      limit: readNumber(config, "swiglu_limit", { min: 0, default: 7 }),
      alpha: readNumber(config, "swiglu_alpha", { default: 1.702 }),
    }),
    // In memory, and as released.
    block: ["mlp", "block_sparse_moe"],
    correctionBias: ["gate.e_score_correction_bias", "e_score_correction_bias"],
    count: { keys: ["num_local_experts", "num_experts"], absent: 128, perToken: 4 },
    size: size("intermediate_size", 3072),
    experts: { projections: mixtralNames },
    joined: ["gate_up_proj", "down_proj"],
    routedMultiplier: number("routed_scaling_factor", 2),
    shared: {
      names: ["mlp.shared_experts", "block_sparse_moe.shared_experts"],
      size: size("shared_intermediate_size", 3072),
      because: "shared_intermediate_size",
    },
    routing: sigmoidRouting({ epsilon: 0 }),
  },
});

/** The index branch of a sparse layer: blocks of keys, of which the best and the nearest are seen. */
function readIndexer(context: FamilyContext, layer: number, prefix: string): GroupedQueryAttention["indexer"] {
  const { config, weights, sizes } = context;
  if (!isSparseAttention(config, sizes.numLayers, layer)) return null;
  const [heads, headDim] = [option(config, "index_n_heads", 4), option(config, "index_head_dim", 128)];
  const [block, best] = [option(config, "index_block_size", 128), option(config, "index_topk_blocks", 16)];
  const because = `index_n_heads = ${heads}, index_head_dim = ${headDim}`;
  const view = (name: string, ...shape: number[]) => {
    const stored = weights.firstOf(`${prefix}.indexer.${name}.weight`, `${prefix}.index_${name}.weight`);
    return weights.view(stored, shape, because);
  };
  return {
    positions: block * best,
    because: `index_block_size = ${block}, index_topk_blocks = ${best}`,
    weights: [
      view("q_proj", heads * headDim, sizes.hiddenSize),
      view("k_proj", headDim, sizes.hiddenSize),
      view("q_norm", headDim),
      view("k_norm", headDim),
    ],
  };
}

/** `layer_types`, or as released `sparse_attention_freq` with a one for each such layer. */
function isSparseAttention(config: Config, numLayers: number, layer: number): boolean {
  const types = readTypes(config, "layer_types", numLayers, ["full_attention", "minimax_m3_sparse"]);
  if (types !== null) return types[layer] === "minimax_m3_sparse";
  const released = readObject(config, "sparse_attention_config");
  return released !== null && readIntList(released, "sparse_attention_freq", { min: 0 })?.[layer] === 1;
}

const releasedNames: Readonly<Record<string, string>> = {
  index_n_heads: "sparse_num_index_heads",
  index_head_dim: "sparse_index_dim",
  index_block_size: "sparse_block_size",
  index_topk_blocks: "sparse_topk_blocks",
};

/** As released under another name inside `sparse_attention_config`, which wins in transformers. */
function option(config: Config, key: string, absent: number): number {
  const released = readObject(config, "sparse_attention_config") ?? {};
  return readInt(released, releasedNames[key]!, { min: 1, default: readInt(config, key, { min: 1, default: absent }) });
}
