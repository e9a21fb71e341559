import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perHead } from "../groupedQuery";
import { slidingButEvery, windowByType } from "../layerTypes";
import { groupedSigmoidRouting } from "../routingRules";
import { size, sizeOrNone } from "../settings";
import { afterFirst, byLayerType } from "../sparseLayers";
import { severalShared } from "./sharedExperts";

const window = sizeOrNone("sliding_window", 4096);

/** Layers that see all positions have no rotary ones, unless no layer slides. */
export const exaoneMoe = decoderFamily({
  modelType: "exaone_moe",
  about: {
    architectures: ["ExaoneMoeForCausalLM", "ExaoneMoEForCausalLM"],
    examples: "K-EXAONE-236B-A23B",
    attention: "grouped-query",
  },
  sizes: { vocab: 102400, hidden: 4096, layers: 32, heads: 32, keyValueHeads: 32, positions: 2048, epsilon: 1e-5 },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    rotates:
      ({ config }, windows) =>
      (layer) =>
        window(config) === null || windows(layer) !== null,
    norms: perHead,
    windows: windowByType(window, slidingButEvery("sliding_window_pattern", 4)),
  }),
  feedForward: {
    sparse: byLayerType(afterFirst("first_k_dense_replace", 1)),
    dense: { size: size("intermediate_size", 16384) },
    // As released, and in memory.
    correctionBias: ["e_score_correction_bias", "gate.e_score_correction_bias"],
    count: { keys: ["num_experts", "num_local_experts", "n_routed_experts"], absent: 64, perToken: 8 },
    size: size("moe_intermediate_size", 1024),
    experts: { projections: llamaNames },
    shared: severalShared("num_shared_experts", 1, 1024),
    routing: groupedSigmoidRouting({ scalingFactor: 2.5 }),
  },
});
