import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery } from "../groupedQuery";
import { windowByType } from "../layerTypes";
import { softmaxThenTopK } from "../routingRules";
import { flag, size } from "../settings";
import { inSteps } from "../sparseLayers";
import { usedWindow } from "./qwen3Moe";

/** A shared expert behind a sigmoid gate. */
export const qwen2Moe = decoderFamily({
  modelType: "qwen2_moe",
  about: {
    architectures: ["Qwen2MoeForCausalLM"],
    examples: "Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B",
    attention: "grouped-query",
  },
  sizes: { vocab: 151936, hidden: 2048, layers: 24, heads: 16, keyValueHeads: 16, positions: 32768, epsilon: 1e-6 },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    bias: flag("qkv_bias", true),
    outputBias: false,
    // Without `layer_types`, transformers slides in every second layer, the even ones, among the first max_window_layers.
    windows: windowByType(
      usedWindow,
      (config) => {
        const window = usedWindow(config);
        const maxWindowLayers = size("max_window_layers", 28, { min: 0 })(config);
        return (layer) => window !== null && layer % 2 === 0 && layer < maxWindowLayers;
      },
      "full_attention in layer_types unless use_sliding_window and sliding_window are set",
    ),
  }),
  feedForward: {
    sparse: inSteps("num_experts", 60),
    dense: { size: size("intermediate_size", 5632) },
    count: { keys: ["num_experts"], absent: 60, perToken: 4 },
    size: size("moe_intermediate_size", 1408),
    experts: { projections: llamaNames },
    shared: {
      names: ["mlp.shared_expert"],
      size: size("shared_expert_intermediate_size", 5632),
      because: "shared_expert_intermediate_size",
      gate: "mlp.shared_expert_gate",
    },
    routing: softmaxThenTopK(flag("norm_topk_prob", false)),
  },
});
