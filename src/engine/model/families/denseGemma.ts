import { readGatedActivation } from "../activation";
import { readObject, type Config } from "../config";
import { decoderFamily, type DecoderFamily, type FamilyContext } from "../decoderFamily";
import type { RotaryDescription } from "../description";
import { groupedQuery, type GroupedQueryTable } from "../groupedQuery";
import { slidingButEvery, windowByType } from "../layerTypes";
import { readRotary } from "../rotaryConfig";
import { flag, number, numberOrNone, size, sizeOrNone } from "../settings";

/* Gemma 2 and 3: norms of 1 + w before and behind each half, embeddings times the root of the width, sliding and full layers. */

const shared = {
  norm: "rms plus one",
  norms: {
    ...{ beforeAttention: "input_layernorm", afterAttention: "post_attention_layernorm" },
    ...{ beforeFeedForward: "pre_feedforward_layernorm", afterFeedForward: "post_feedforward_layernorm" },
  },
  only: { use_bidirectional_attention: [[false], "text attends to what is before it only"] },
  tied: true,
  embeddingMultiplier: (_, { hiddenSize }) => Math.sqrt(hiddenSize),
  feedForward: {
    activation: (config) => readGatedActivation({ hidden_act: config["hidden_activation"] ?? "gelu_pytorch_tanh" }),
    dense: { size: size("intermediate_size", 9216) },
  },
} as const satisfies Partial<DecoderFamily>;

const heads = { vocab: 256_000, hidden: 2304, layers: 26, heads: 8, keyValueHeads: 4, headDim: 256, epsilon: 1e-6 };

const attention = {
  bias: flag("attention_bias", false),
  scale: (config) => number("query_pre_attn_scalar", 256, { min: Number.MIN_VALUE })(config) ** -0.5,
} as const satisfies Partial<GroupedQueryTable>;

/** A cap where config.json has one; `absent` is what the config class says where it is silent. */
const cap = (key: string, absent: number | null) => (config: Config) =>
  config[key] === undefined ? absent : numberOrNone(key, { min: Number.MIN_VALUE })(config);

/** Attention scores and logits are capped; every second layer slides. */
export const gemma2 = decoderFamily({
  ...shared,
  modelType: "gemma2",
  about: {
    architectures: ["Gemma2ForCausalLM"],
    examples: "gemma-2-2b to gemma-2-27b",
    attention: "grouped-query, sliding and full",
  },
  sizes: { ...heads, positions: 8192 },
  softcap: cap("final_logit_softcapping", 30),
  attention: groupedQuery({
    ...attention,
    rotary: { defaultTheta: 10_000 },
    softcap: cap("attn_logit_softcapping", 50),
    windows: windowByType(sizeOrNone("sliding_window", 4096), () => (layer) => layer % 2 === 0),
  }),
});

/** Five sliding layers to a full one, each kind with a rotary base of its own; queries and keys are normalised. */
export const gemma3Text = decoderFamily({
  ...shared,
  modelType: "gemma3_text",
  about: {
    architectures: ["Gemma3ForCausalLM"],
    examples: "gemma-3-270m, gemma-3-1b, the language model of gemma-3-4b to gemma-3-27b",
    attention: "grouped-query, sliding and full",
  },
  sizes: { ...heads, vocab: 262_208, positions: 131_072 },
  softcap: cap("final_logit_softcapping", null),
  attention: groupedQuery({
    ...attention,
    rotary: { defaultTheta: 1_000_000, layerType: "full_attention" },
    slidingRotary,
    norms: { query: "q_norm", key: "k_norm", scope: "head", kind: "rms plus one" },
    softcap: cap("attn_logit_softcapping", null),
    windows: windowByType(sizeOrNone("sliding_window", 4096), (config) =>
      slidingButEvery(
        config["_sliding_window_pattern"] === undefined ? "sliding_window_pattern" : "_sliding_window_pattern",
        6,
      )(config),
    ),
  }),
});

/** Released configs give sliding layers a base and nothing else: `rope_scaling` is about full ones. */
function slidingRotary({ config, sizes: { headDim, maxPositions } }: FamilyContext): RotaryDescription {
  const all = readObject(config, "rope_parameters");
  const own = (all && readObject(all, "sliding_attention")) ?? {};
  const options = { headDim, maxPositions, defaultTheta: 10_000, pairing: "half", partialFactor: null } as const;
  const beside = { rope_local_base_freq: config["rope_local_base_freq"], rope_parameters: own };
  return readRotary(beside, { ...options, thetaKey: "rope_local_base_freq" });
}
