import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perHead } from "../groupedQuery";
import { softmaxThenTopK } from "../routingRules";
import { flag, size } from "../settings";
import { inSteps } from "../sparseLayers";
import { textTowerOf } from "../textTower";

const spellings = ["num_experts", "num_local_experts"] as const;

/** Text alone has the same three positions in every axis, so its rotation is the plain one. */
const text = decoderFamily({
  modelType: "qwen3_vl_moe_text",
  about: {
    architectures: ["Qwen3VLMoeForConditionalGeneration"],
    examples: "Qwen3-VL-30B-A3B, Qwen3-VL-235B-A22B",
    attention: "grouped-query",
  },
  sizes: { vocab: 151936, hidden: 2048, layers: 24, heads: 16, keyValueHeads: 16, positions: 128000, epsilon: 1e-6 },
  only: { norm_topk_prob: [[true], "this family divides routing weights by their sum"] },
  attention: groupedQuery({ rotary: { defaultTheta: 500_000 }, bias: flag("attention_bias", false), norms: perHead }),
  feedForward: {
    sparse: inSteps(spellings, 60),
    dense: { size: size("intermediate_size", 5632) },
    count: { keys: spellings, absent: 60, perToken: 4, written: spellings },
    size: size("moe_intermediate_size", 1408),
    experts: { projections: llamaNames, axes: "either" },
    routing: softmaxThenTopK(true),
  },
});

export const qwen3VlMoe = textTowerOf(text, "qwen3_vl_moe");
