import { readInt, readNullableInt, refuseUnless, type Config } from "./config";
import type { DecoderOptions, DecoderSizes } from "./decoder";
import type { GatedActivation, RoutingDescription } from "./description";
import { readExpertCount, type ExpertCount, type ExpertCountKeys } from "./expertCount";
import { llamaNames, readExperts, readMlp } from "./expertTensors";
import { readMoe } from "./moe";
import type { Weights } from "./weights";

/**
 * The feed-forward parts of DeepSeek and GLM: the first `first_k_dense_replace` layers are dense, the others have routed
 * experts of `moe_intermediate_size` beside `n_shared_experts` shared ones, stored as one MLP.
 */
export function readDeepseekFeedForward(
  config: Config,
  weights: Weights,
  options: {
    sizes: DecoderSizes;
    activation: GatedActivation;
    experts: ExpertCountKeys;
    routing: (count: ExpertCount) => RoutingDescription;
    /** True where the router has `e_score_correction_bias`. */
    correctionBias: boolean;
    /** Biases of dense and shared MLPs. */
    mlpBias: boolean;
    /** Where config.json is silent. */
    defaults: { dense: number; expert: number; shared: number; denseLayers: number };
  },
): DecoderOptions["feedForward"] {
  const { activation, defaults, mlpBias } = options;
  const { hiddenSize, numLayers } = options.sizes;
  const denseLayers = readInt(config, "first_k_dense_replace", { min: 0, default: defaults.denseLayers });
  const denseSize = readInt(config, "intermediate_size", { min: 1, default: defaults.dense });
  const expertSize = readInt(config, "moe_intermediate_size", { min: 1, default: defaults.expert });
  const sharedExperts = readNullableInt(config, "n_shared_experts", { min: 0, absent: defaults.shared }) ?? 0;
  refuseUnless(config, "moe_layer_freq", [1], "Reroute supports experts in every layer behind the dense ones");
  const sharedSize = expertSize * sharedExperts;
  const mlp = (prefix: string, intermediateSize: number, because: string) =>
    readMlp(weights, prefix, { hiddenSize, intermediateSize, because, activation, bias: mlpBias });

  return (index, layer) => {
    const prefix = `${layer}.mlp`;
    if (index < denseLayers) {
      const because = `first_k_dense_replace = ${denseLayers}, intermediate_size = ${denseSize}`;
      return mlp(prefix, denseSize, because);
    }
    const count = readExpertCount(config, index, numLayers, options.experts);
    const shared = () => ({
      mlp: mlp(
        `${prefix}.shared_experts`,
        sharedSize,
        `n_shared_experts = ${sharedExperts}, moe_intermediate_size = ${expertSize}`,
      ),
      gate: null,
    });
    return readMoe(weights, {
      hiddenSize,
      intermediateSize: expertSize,
      activation,
      count,
      routing: options.routing(count),
      router: `${prefix}.gate.weight`,
      ...(options.correctionBias ? { correctionBias: deepseekCorrectionBias(prefix) } : {}),
      experts: (shape) => readExperts(weights, `${prefix}.experts`, llamaNames, shape),
      ...(sharedExperts > 0 ? { shared } : {}),
    });
  };
}

function deepseekCorrectionBias(prefix: string): { tensor: string; leadingOne: boolean } {
  return { tensor: `${prefix}.gate.e_score_correction_bias`, leadingOne: false };
}
