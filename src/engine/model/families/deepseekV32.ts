import { readInt, refuseUnless } from "../config";
import { decoderFamily, type FamilyContext } from "../decoderFamily";
import type { LatentAttention } from "../description";
import { llamaNames } from "../expertTensors";
import { latentAttention } from "../latentAttention";
import { readTypes } from "../layerTypes";
import { groupedSigmoidRouting } from "../routingRules";
import { size } from "../settings";
import { afterFirst, byLayerType } from "../sparseLayers";
import { severalShared } from "./sharedExperts";

/** DeepSeek-V3 with an index branch, which chooses what each query sees once the sequence is longer than `index_topk`. */
export const deepseekV32 = decoderFamily({
  modelType: "deepseek_v32",
  about: {
    architectures: ["DeepseekV32ForCausalLM"],
    examples: "DeepSeek-V3.2, DeepSeek-V3.2-Exp",
    attention: "latent, index-selected",
    limits: "sequences of up to index_topk tokens",
  },
  sizes: { vocab: 129280, hidden: 7168, layers: 61, heads: 128, keyValueHeads: 128, positions: 163840, epsilon: 1e-6 },
  check: (config, { numLayers }) => {
    readTypes(config, "layer_types", numLayers, ["indexed_attention"]);
    refuseUnless(config, "rope_interleave", [true], "this family rotates interleaved pairs");
    // A null means one uncompressed projection elsewhere; here the index branch reads the compressed one.
    readInt({ q_lora_rank: config["q_lora_rank"] ?? 1536 }, "q_lora_rank", { min: 1 });
  },
  attention: latentAttention({ rotary: { defaultTheta: 10_000 }, indexer: readIndexer }),
  feedForward: {
    sparse: byLayerType(afterFirst("first_k_dense_replace", 3)),
    dense: { size: size("intermediate_size", 18432) },
    correctionBias: ["gate.e_score_correction_bias"],
    count: { keys: ["n_routed_experts", "num_local_experts", "num_experts"], absent: 256, perToken: 8 },
    size: size("moe_intermediate_size", 2048),
    experts: { projections: llamaNames },
    shared: severalShared("n_shared_experts", 1, 2048),
    routing: groupedSigmoidRouting({ scalingFactor: 2.5, numGroups: 8, topGroups: 4 }),
  },
});

function readIndexer({ config, weights, sizes }: FamilyContext, prefix: string): LatentAttention["indexer"] {
  const heads = readInt(config, "index_n_heads", { min: 1, default: 64 });
  const headDim = readInt(config, "index_head_dim", { min: 1, default: 128 });
  const queryRank = readInt(config, "q_lora_rank", { min: 1, default: 1536 });
  const because = `index_n_heads = ${heads}, index_head_dim = ${headDim}`;
  const view = (name: string, ...shape: number[]) => weights.view(`${prefix}.indexer.${name}`, shape, because);
  const positions = readInt(config, "index_topk", { min: 1, default: 2048 });
  return {
    positions,
    because: `index_topk = ${positions}`,
    weights: [
      view("wq_b.weight", heads * headDim, queryRank),
      view("wk.weight", headDim, sizes.hiddenSize),
      view("k_norm.weight", headDim),
      view("k_norm.bias", headDim),
      view("weights_proj.weight", heads, sizes.hiddenSize),
    ],
  };
}
