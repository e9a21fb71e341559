import { decoderFamily } from "../decoderFamily";
import { groupedQuery } from "../groupedQuery";
import { readInterleavedExperts } from "../interleavedExperts";
import { windowByType } from "../layerTypes";
import { topKThenSoftmax } from "../routingRules";
import { flag, size, sizeOrNone } from "../settings";

/** Constants of the activation, which transformers does not read from config.json. */
const limit = 7;
const alpha = 1.702;
const spellings = ["num_local_experts", "num_experts"] as const;

/** Attention sinks, biased routers and experts, a clamped activation. */
export const gptOss = decoderFamily({
  modelType: "gpt_oss",
  about: { architectures: ["GptOssForCausalLM"], examples: "gpt-oss-20b, gpt-oss-120b", attention: "grouped-query" },
  sizes: {
    ...{ vocab: 201088, hidden: 2880, layers: 36, heads: 64, keyValueHeads: 8, headDim: 64 },
    ...{ positions: 131072, epsilon: 1e-5 },
  },
  only: {
    hidden_act: [["silu"], "gpt-oss has one activation of its own"],
    swiglu_limit: [[limit], `transformers clamps the activation at ${limit} whatever this says`],
  },
  attention: groupedQuery({
    rotary: {
      defaultTheta: 150_000,
      defaultParameters: {
        ...{ rope_type: "yarn", factor: 32, beta_fast: 32, beta_slow: 1, truncate: false },
        original_max_position_embeddings: 4096,
      },
    },
    bias: flag("attention_bias", true),
    windows: windowByType(sizeOrNone("sliding_window", 128), () => (layer) => layer % 2 === 0),
    sinks: { names: ["sinks"], in: () => true },
  }),
  feedForward: {
    activation: { kind: "clamped-swiglu", limit, alpha },
    router: ["router.weight"],
    routerBias: ["router.bias"],
    count: {
      ...{ keys: spellings, absent: 128, perToken: 4, written: spellings },
      perTokenKey: ["num_experts_per_tok", "experts_per_token"],
    },
    size: size("intermediate_size", 2880),
    experts: readInterleavedExperts,
    routing: topKThenSoftmax,
  },
});
