import { readNumber, unsupported } from "../config";
import { decoderFamily, type FamilyContext } from "../decoderFamily";
import type { RotaryDescription } from "../description";
import { mixtralNames } from "../expertTensors";
import { groupedQuery } from "../groupedQuery";
import { sameWindow } from "../layerTypes";
import { readRotary, readRotaryParameters } from "../rotaryConfig";
import { flag, size, sizeOrNone } from "../settings";

/** Layer norms with biases, and SparseMixer routing in evaluation mode, which always selects two experts. */
export const phimoe = decoderFamily({
  modelType: "phimoe",
  about: {
    architectures: ["PhimoeForCausalLM", "PhiMoEForCausalLM"],
    examples: "Phi-3.5-MoE, Phi-mini-MoE",
    attention: "grouped-query",
  },
  sizes: { vocab: 32064, hidden: 4096, layers: 32, heads: 32, keyValueHeads: 8, positions: 131072, epsilon: 1e-5 },
  only: { num_experts_per_tok: [[2], "SparseMixer selects two experts"] },
  norm: "layer",
  headBias: flag("lm_head_bias", false),
  attention: groupedQuery({
    rotary: phimoeRotary,
    bias: flag("attention_bias", false),
    windows: sameWindow(sizeOrNone("sliding_window", null)),
  }),
  feedForward: {
    block: ["block_sparse_moe", "mlp"],
    router: ["gate.weight", "router.weight"],
    count: { keys: ["num_local_experts", "num_experts"], absent: 16, perToken: 2 },
    size: size("intermediate_size", 6400),
    experts: { projections: mixtralNames },
    routing: (config) => ({
      kind: "sparse-mixer",
      jitter: readNumber(config, "router_jitter_noise", { min: 0, default: 0.01 }),
    }),
  },
});

/**
 * LongRoPE with magnitudes from the config. transformers 5.18 evaluates PhiMoE's frequencies without the sequence length,
 * so the short factors apply to every length, and only the magnitude changes beyond the original length; we agree with it.
 */
function phimoeRotary({ config, sizes: { headDim, maxPositions } }: FamilyContext): RotaryDescription {
  const rotary = readRotary(config, {
    ...{ headDim, maxPositions, defaultTheta: 1_000_000, pairing: "half", partialFactor: null },
  });
  const { scaling } = rotary;
  if (scaling.type === "default") return rotary;
  if (scaling.type !== "longrope") throw unsupported("rope_type", scaling.type, "default, longrope in this family");
  const { parameters } = readRotaryParameters(config);
  return {
    ...rotary,
    scaling: {
      ...scaling,
      longFactor: scaling.shortFactor,
      attentionFactorShort: readNumber(parameters, "short_mscale"),
      attentionFactorLong: readNumber(parameters, "long_mscale"),
    },
  };
}
