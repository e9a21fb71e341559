import { unsupported } from "../config";
import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perProjection } from "../groupedQuery";
import { sameWindow } from "../layerTypes";
import { softmaxThenTopK } from "../routingRules";
import { flag, numberOrNone, size } from "../settings";

const spellings = ["num_experts", "num_local_experts"] as const;

/** Queries and keys are normalised over the whole projection, then clipped with values. */
export const olmoe = decoderFamily({
  modelType: "olmoe",
  about: { architectures: ["OlmoeForCausalLM"], examples: "OLMoE-1B-7B", attention: "grouped-query" },
  sizes: { vocab: 50304, hidden: 2048, layers: 16, heads: 16, keyValueHeads: null, positions: 4096, epsilon: 1e-5 },
  only: { sliding_window: [[], "OLMoE attends to all positions before"] },
  check: (_, { headDim, numHeads, hiddenSize }) => {
    // The norms' sizes follow from hidden_size alone, so another head_dim cannot work in this family.
    if (headDim * numHeads !== hiddenSize) {
      throw unsupported("head_dim", headDim, `hidden_size / num_attention_heads = ${hiddenSize / numHeads}`);
    }
  },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    windows: sameWindow(null),
    bias: flag("attention_bias", false),
    norms: perProjection,
    clip: numberOrNone("clip_qkv", { min: 0 }),
  }),
  feedForward: {
    count: { keys: spellings, absent: 64, perToken: 8, written: spellings },
    size: size("intermediate_size", 2048),
    experts: { projections: llamaNames },
    routing: softmaxThenTopK(flag("norm_topk_prob", false)),
  },
});
