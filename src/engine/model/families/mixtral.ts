import { decoderFamily } from "../decoderFamily";
import { mixtralNames } from "../expertTensors";
import { groupedQuery } from "../groupedQuery";
import { sameWindow } from "../layerTypes";
import { softmaxThenTopK } from "../routingRules";
import { size, sizeOrNone } from "../settings";

const spellings = ["num_local_experts", "num_experts"] as const;

export const mixtral = decoderFamily({
  modelType: "mixtral",
  about: { architectures: ["MixtralForCausalLM"], examples: "Mixtral-8x7B, Mixtral-8x22B", attention: "grouped-query" },
  sizes: { vocab: 32000, hidden: 4096, layers: 32, heads: 32, keyValueHeads: 8, positions: 131072, epsilon: 1e-5 },
  attention: groupedQuery({
    rotary: { defaultTheta: 1_000_000 },
    windows: sameWindow(sizeOrNone("sliding_window", null)),
  }),
  feedForward: {
    block: ["block_sparse_moe", "mlp"],
    count: { keys: spellings, absent: 8, perToken: 2, written: spellings },
    size: size("intermediate_size", 14336),
    experts: { projections: mixtralNames },
    routing: softmaxThenTopK(true),
  },
});
