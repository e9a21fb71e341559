import { readInt, readOptionalNumber, unsupported, type Config } from "../config";
import { decoderFamily, type FamilyContext } from "../decoderFamily";
import type { RotaryDescription } from "../description";
import { llamaNames } from "../expertTensors";
import { groupedQuery, type HeadNorms } from "../groupedQuery";
import { readRotary, readRotaryParameters } from "../rotaryConfig";
import { softmaxThenTopK } from "../routingRules";
import { flag, size } from "../settings";

const norms: HeadNorms = { query: "query_layernorm", key: "key_layernorm", scope: "head", afterRotary: true };

/** Attention of Hunyuan's dense and MoE models. */
export const hunyuanAttention = groupedQuery({
  rotary: hunyuanRotary,
  bias: flag("attention_bias", false),
  // transformers always normalises; the released code can leave the norms out, and then has no tensors for them.
  norms: (config, has) => (flag("use_qk_norm", true)(config) || has("query_layernorm.weight") ? norms : null),
});

/** A shared expert beside the routed ones, queries and keys normalised after the rotation. */
export const hunyuanV1Moe = decoderFamily({
  modelType: "hunyuan_v1_moe",
  about: {
    architectures: ["HunYuanMoEV1ForCausalLM"],
    examples: "Hunyuan-A13B",
    attention: "grouped-query",
  },
  sizes: { vocab: 290943, hidden: 4096, layers: 32, heads: 32, keyValueHeads: null, positions: 2048, epsilon: 1e-5 },
  only: {
    use_cla: [[false], "Reroute does not support attention shared across layers"],
    use_mla: [[false], "Reroute does not support latent attention in this family"],
    use_mixed_mlp_moe: [[true], "this family has a shared expert in every layer"],
    moe_layer_num_skipped: [[0], "this family has experts in every layer"],
    norm_topk_prob: [[true], "this family divides routing weights by their sum"],
    mlp_bias: [[false], "this family has no biases in its experts"],
  },
  check: refuseUnequalLayers,
  attention: hunyuanAttention,
  feedForward: {
    router: ["gate.wg.weight", "gate.weight"],
    count: {
      ...{ keys: ["num_experts", "num_local_experts"], absent: 1, perToken: 1, byLayer: true },
      perTokenKey: ["moe_topk", "num_experts_per_tok"],
    },
    size: size("intermediate_size", 11008),
    experts: { projections: llamaNames },
    shared: {
      names: ["mlp.shared_mlp"],
      size: size("intermediate_size", 11008),
      because: "intermediate_size",
    },
    routing: softmaxThenTopK(true),
  },
});

/** Options that may be lists with one number for each layer, of which transformers reads none. */
function refuseUnequalLayers(config: Config): void {
  const intermediateSize = readInt(config, "intermediate_size", { min: 1, default: 11008 });
  const expected: Record<string, number> = { num_shared_expert: 1, moe_intermediate_size: intermediateSize };
  for (const [key, value] of Object.entries(expected)) {
    const found = config[key] ?? value;
    const other = (Array.isArray(found) ? (found as unknown[]) : [found]).find((item) => item !== value);
    if (other !== undefined) throw unsupported(key, other, `${value} in every layer`);
  }
}

/** `dynamic` with `alpha` stretches the base once: theta * alpha^(d / (d - 2)), whatever the length. */
function hunyuanRotary({ config, sizes: { headDim, maxPositions } }: FamilyContext): RotaryDescription {
  const { type, parameters } = readRotaryParameters(config);
  const alpha = readOptionalNumber(parameters, "alpha", { min: 0 }) ?? 0;
  const options = { headDim, maxPositions, defaultTheta: 10_000, pairing: "half", partialFactor: null } as const;
  if (type !== "dynamic" || alpha === 0) return readRotary(config, options);
  const rotary = readRotary(config, options, "default");
  return { ...rotary, theta: rotary.theta * alpha ** (headDim / (headDim - 2)) };
}
