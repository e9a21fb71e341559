import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perHead } from "../groupedQuery";
import { windowByType } from "../layerTypes";
import { groupedSigmoidRouting } from "../routingRules";
import { flag, size, sizeOrNone } from "../settings";
import { afterFirst } from "../sparseLayers";
import { severalShared } from "./sharedExperts";

const window = sizeOrNone("sliding_window", 4096);

export const dots1 = decoderFamily({
  modelType: "dots1",
  about: { architectures: ["Dots1ForCausalLM"], examples: "dots.llm1", attention: "grouped-query" },
  sizes: { vocab: 152064, hidden: 4608, layers: 62, heads: 32, keyValueHeads: 32, positions: 2048, epsilon: 1e-6 },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    bias: flag("attention_bias", false),
    norms: perHead,
    windows: windowByType(window, (config) => {
      const first = size("max_window_layers", 62, { min: 0 })(config);
      return (layer) => window(config) !== null && layer >= first;
    }),
  }),
  feedForward: {
    sparse: afterFirst("first_k_dense_replace", 0),
    dense: { size: size("intermediate_size", 10944) },
    correctionBias: ["gate.e_score_correction_bias"],
    count: { keys: ["n_routed_experts", "num_local_experts", "num_experts"], absent: 128, perToken: null },
    size: size("moe_intermediate_size", 1408),
    experts: { projections: llamaNames },
    shared: severalShared("n_shared_experts", 0, 1408),
    // Released configs call the scoring by the name of the selection.
    routing: groupedSigmoidRouting({ scalingFactor: 1, renormalise: false }, ["sigmoid", "noaux_tc"]),
  },
});
