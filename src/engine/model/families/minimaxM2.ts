import { malformedConfig, readIntList, readOptionalNumber, unsupported, type Config } from "../config";
import type { DecoderSizes } from "../decoder";
import { decoderFamily } from "../decoderFamily";
import { mixtralNames } from "../expertTensors";
import { groupedQuery, perProjection } from "../groupedQuery";
import { sigmoidRouting } from "../routingRules";
import { size } from "../settings";

/** Sigmoid routing with a correction bias, norms over whole projections, partly rotated heads. */
export const minimaxM2 = decoderFamily({
  modelType: "minimax_m2",
  about: { architectures: ["MiniMaxM2ForCausalLM"], examples: "MiniMax-M2, MiniMax-M2.1", attention: "grouped-query" },
  sizes: {
    ...{ vocab: 200064, hidden: 3072, layers: 62, heads: 48, keyValueHeads: 8, headDim: 128 },
    ...{ positions: 196608, epsilon: 1e-6 },
  },
  only: {
    scoring_func: [["sigmoid"], "this family scores experts by a sigmoid"],
    use_routing_bias: [[true], "this family selects experts with a correction bias"],
    use_qk_norm: [[true], "this family normalises queries and keys"],
    qk_norm_type: [["per_layer"], "this family normalises queries and keys over all heads together"],
    shared_intermediate_size: [[0], "Reroute does not support shared experts in this family"],
  },
  check: (config) => {
    const linear = readIntList(config, "attn_type_list", { min: 0 })?.find((type) => type !== 1);
    if (linear !== undefined) throw unsupported("attn_type_list", linear, "1 (softmax attention) in every layer");
  },
  attention: groupedQuery({
    rotary: { defaultTheta: 5_000_000, partialFactor: rotatedShare },
    norms: perProjection,
  }),
  feedForward: {
    block: ["block_sparse_moe", "mlp"],
    correctionBias: ["e_score_correction_bias"],
    count: { keys: ["num_local_experts", "num_experts"], absent: 256, perToken: 8 },
    size: size("intermediate_size", 1536),
    experts: { projections: mixtralNames },
    routing: sigmoidRouting({ epsilon: 0 }),
  },
});

/** Share of a head that is rotated: `rotary_dim` of released configs; the whole head where it is absent. */
function rotatedShare(config: Config, { headDim }: DecoderSizes): number {
  const rotaryDim = readOptionalNumber(config, "rotary_dim", { min: 2 });
  if (rotaryDim === null) return 1;
  if (rotaryDim > headDim) throw malformedConfig("rotary_dim", rotaryDim, `at most head_dim = ${headDim}`);
  return rotaryDim / headDim;
}
