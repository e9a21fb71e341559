import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perHead } from "../groupedQuery";
import { slidingButEvery, windowByType } from "../layerTypes";
import { sigmoidRouting } from "../routingRules";
import { flag, number, size, sizeOrNone } from "../settings";
import { afterFirst } from "../sparseLayers";
import { severalShared } from "./sharedExperts";

const oneGroup = [[1], "Reroute supports one group of experts in this family"] as const;

/** Norms before and behind each half of a layer, gated attention, rotary positions in sliding layers only. */
export const afmoe = decoderFamily({
  modelType: "afmoe",
  about: {
    architectures: ["AfmoeForCausalLM"],
    examples: "Trinity-Nano, Trinity-Mini, Trinity-Large",
    attention: "grouped-query, gated",
  },
  sizes: {
    ...{ vocab: 200192, hidden: 2048, layers: 32, heads: 16, keyValueHeads: null, headDim: 128 },
    ...{ positions: 16384, epsilon: 1e-5 },
  },
  only: {
    score_func: [["sigmoid"], "this family scores experts by a sigmoid"],
    route_norm: [[true], "this family divides routing weights by their sum"],
    ...{ n_group: oneGroup, topk_group: oneGroup, num_expert_groups: oneGroup, num_limited_groups: oneGroup },
  },
  norms: {
    ...{ beforeAttention: "input_layernorm", afterAttention: "post_attention_layernorm" },
    ...{ beforeFeedForward: "pre_mlp_layernorm", afterFeedForward: "post_mlp_layernorm" },
  },
  embeddingMultiplier: (config, { hiddenSize }) => (flag("mup_enabled", false)(config) ? Math.sqrt(hiddenSize) : 1),
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    rotates: (_, windows) => (layer) => windows(layer) !== null,
    bias: flag("attention_bias", false),
    norms: perHead,
    windows: windowByType(sizeOrNone("sliding_window", 1024), slidingButEvery("global_attn_every_n_layers", 4)),
    outputGate: "gate_proj",
  }),
  feedForward: {
    sparse: afterFirst("num_dense_layers", 1),
    dense: { size: size("intermediate_size", 6144) },
    router: ["router.gate.weight"],
    correctionBias: ["expert_bias"],
    count: { keys: ["num_experts", "num_local_experts"], absent: 64, perToken: 6 },
    size: size("moe_intermediate_size", 1408),
    experts: { projections: llamaNames },
    shared: severalShared("num_shared_experts", 2, 1408),
    routing: (config, count) => sigmoidRouting({ scalingFactor: number("route_scale", 1)(config) })(config, count),
  },
});
