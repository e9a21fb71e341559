import { readGatedActivation } from "../activation";
import { malformed, readInt, readIntList, readOptionalNumber, refuseUnless, unsupported, type Config } from "../config";
import { describeDecoder, readSizes } from "../decoder";
import type { RoutingDescription } from "../description";
import { readExpertCount, writeNumExperts, type ExpertCountKeys } from "../expertCount";
import { mixtralNames, readExperts } from "../expertTensors";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { moeBlockPrefix, readMoe } from "../moe";
import { readRotary } from "../rotaryConfig";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["num_local_experts", "num_experts"],
  numExpertsPerToken: "num_experts_per_tok",
  defaults: { numExperts: 256, numExpertsPerToken: 8 },
};

const routing: RoutingDescription = {
  kind: "sigmoid",
  renormalise: true,
  epsilon: 0,
  scalingFactor: 1,
  groups: null,
  useCorrectionBias: true,
};

/** MiniMax-M2: sigmoid routing with a correction bias, norms over whole projections, partly rotated heads. */
export const minimaxM2: ModelFamily = {
  modelType: "minimax_m2",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 200064,
      hidden_size: 3072,
      num_hidden_layers: 62,
      num_attention_heads: 48,
      num_key_value_heads: 8,
      head_dim: 128,
      max_position_embeddings: 196608,
      rms_norm_eps: 1e-6,
    });
    const { hiddenSize, numLayers, headDim, maxPositions, normEpsilon } = sizes;
    refuseOtherVariants(config);
    const activation = readGatedActivation(config);
    const intermediateSize = readInt(config, "intermediate_size", { min: 1, default: 1536 });
    return describeDecoder({
      family: "minimax_m2",
      config,
      weights,
      sizes,
      rotary: readRotary(config, {
        headDim,
        maxPositions,
        defaultTheta: 5_000_000,
        pairing: "half",
        partialFactor: readRotaryDim(config, headDim),
      }),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      attention: (_, prefix) =>
        readGroupedQuery(weights, prefix, {
          sizes,
          inputBias: false,
          outputBias: false,
          slidingWindow: null,
          norms: { query: "q_norm", key: "k_norm", scope: "projection", afterRotary: false },
        }),
      feedForward: (index, layer) => {
        const prefix = moeBlockPrefix(weights, layer, "gate.weight");
        return readMoe(weights, {
          hiddenSize,
          intermediateSize,
          activation,
          count: readExpertCount(config, index, numLayers, experts),
          routing,
          router: `${prefix}.gate.weight`,
          correctionBias: { tensor: `${prefix}.e_score_correction_bias`, leadingOne: false },
          experts: (shape) => readExperts(weights, `${prefix}.experts`, mixtralNames, shape),
        });
      },
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, ["num_local_experts"]),
  perExpertTensors: (layer) =>
    ["block_sparse_moe", "mlp"].map((block) => ({
      name: `model.layers.${layer}.${block}.e_score_correction_bias`,
      axis: 0,
    })),
};

/** Share of a head that is rotated: `rotary_dim` of released configs; the whole head where it is absent. */
function readRotaryDim(config: Config, headDim: number): number {
  const rotaryDim = readOptionalNumber(config, "rotary_dim", { min: 2 });
  if (rotaryDim === null) return 1;
  if (rotaryDim > headDim) throw malformed("rotary_dim", rotaryDim, `at most head_dim = ${headDim}`);
  return rotaryDim / headDim;
}

/** Options of the released configuration that transformers does not read and whose other values mean another model. */
function refuseOtherVariants(config: Config): void {
  refuseUnless(config, "scoring_func", ["sigmoid"], "this family scores experts by a sigmoid");
  refuseUnless(config, "use_routing_bias", [true], "this family selects experts with a correction bias");
  refuseUnless(config, "use_qk_norm", [true], "this family normalises queries and keys");
  refuseUnless(
    config,
    "qk_norm_type",
    ["per_layer"],
    "this family normalises queries and keys over all heads together",
  );
  refuseUnless(config, "shared_intermediate_size", [0], "Reroute does not support shared experts in this family");
  const linear = readIntList(config, "attn_type_list", { min: 0 })?.find((type) => type !== 1);
  if (linear !== undefined) throw unsupported("attn_type_list", linear, "1 (softmax attention) in every layer");
}
