import { readChoice, readInt, type Config } from "../config";
import { decoderFamily, type FamilyContext } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery } from "../groupedQuery";
import { slidingButEvery, windowByType } from "../layerTypes";
import { sigmoidRouting, topKThenSoftmax, type RoutingRule } from "../routingRules";
import { flag, number, size, sizeOrNone } from "../settings";
import { afterFirst, byLayerType } from "../sparseLayers";
import { severalShared } from "./sharedExperts";

const sparse = byLayerType(afterFirst("first_k_dense_replace", 0));
const hasRmsNorm = (config: Config) => (config["rms_norm_eps"] ?? null) !== null;
const intermediateSize = size("intermediate_size", 22528);
const prefixPattern = size("prefix_dense_sliding_window_pattern", 1);

/** One norm feeds attention and feed-forward part side by side; layers that see all positions have no rotary ones. */
export const cohere2Moe = decoderFamily({
  modelType: "cohere2_moe",
  about: { architectures: ["Cohere2MoeForCausalLM"], examples: "Command A MoE", attention: "grouped-query, parallel" },
  sizes: {
    ...{ vocab: 256000, hidden: 8192, layers: 40, heads: 64, keyValueHeads: null, headDim: 128, positions: 8192 },
    ...{ epsilon: 1e-5, epsilonKey: (config) => (hasRmsNorm(config) ? "rms_norm_eps" : "layer_norm_eps") },
  },
  tied: true,
  headScale: number("logit_scale", 0.0625),
  norm: (config) => (hasRmsNorm(config) ? "rms" : "layer without bias"),
  norms: {
    ...{ beforeAttention: "input_layernorm", afterAttention: null, beforeFeedForward: null, afterFeedForward: null },
    parallel: true,
  },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000, pairing: "interleaved" },
    rotates: rotatedLayers,
    bias: flag("attention_bias", false),
    windows: windowByType(sizeOrNone("sliding_window", 4096), slidingLayers),
  }),
  feedForward: {
    sparse,
    dense: {
      size: (config) => sizeOrNone("prefix_dense_intermediate_size", null)(config) ?? intermediateSize(config),
    },
    count: { keys: ["num_experts", "num_local_experts"], absent: 8, perToken: 2 },
    size: intermediateSize,
    experts: { projections: llamaNames },
    shared: severalShared("num_shared_experts", 0, 22528, ["mlp.shared_experts"], "intermediate_size"),
    routing: chosenScores,
  },
  expertsMultiplier: (config) => {
    const averages = readChoice(config, "shared_expert_combination_strategy", ["average", "sum"], "average");
    return averages === "average" && readInt(config, "num_shared_experts", { min: 0, default: 0 }) > 0 ? 0.5 : 1;
  },
});

/** The dense layers in front have a pattern of their own. */
function slidingLayers(config: Config): (layer: number) => boolean {
  const dense = readInt(config, "first_k_dense_replace", { min: 0, default: 0 });
  const [front, rest] = [
    slidingButEvery("prefix_dense_sliding_window_pattern", 1)(config),
    slidingButEvery("sliding_window_pattern", 4)(config),
  ];
  return (layer) => (layer < dense ? front(layer) : rest(layer - dense));
}

function rotatedLayers(
  { config, sizes }: FamilyContext,
  windows: (layer: number) => number | null,
): (layer: number) => boolean {
  const { isSparse } = sparse(config, sizes);
  const denseAreRotated = prefixPattern(config) === 1;
  return (layer) => windows(layer) !== null || (denseAreRotated && !isSparse(layer));
}

/** Top-k of the logits; their softmax or their sigmoids, which `norm_topk_prob` divides by their sum. */
function chosenScores(...[config, count]: Parameters<RoutingRule>): ReturnType<RoutingRule> {
  if (readChoice(config, "expert_selection_fn", ["softmax", "sigmoid"], "softmax") === "softmax") {
    return topKThenSoftmax(config, count);
  }
  const renormalise = flag("norm_topk_prob", true)(config);
  return sigmoidRouting({ renormalise, epsilon: 0, useCorrectionBias: false })(config, count);
}
