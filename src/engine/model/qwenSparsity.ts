import { readInt, readIntList, type Config } from "./config";
import type { DecoderOptions, DecoderSizes } from "./decoder";
import type { GatedActivation, MoeDescription } from "./description";
import { readExpertCount, type ExpertCount, type ExpertCountKeys } from "./expertCount";
import { readMlp } from "./expertTensors";
import type { Weights } from "./weights";

/**
 * Qwen's rule of which layers have experts: all but those in `mlp_only_layers`, in steps of `decoder_sparse_step`. The
 * others have a dense feed-forward part of `intermediate_size`; experts have `moe_intermediate_size`.
 */
export function readQwenFeedForward(
  config: Config,
  weights: Weights,
  options: {
    sizes: DecoderSizes;
    activation: GatedActivation;
    experts: ExpertCountKeys;
    /** Sizes where config.json names none. */
    denseDefault: number;
    expertDefault: number;
    moe: (prefix: string, count: ExpertCount, intermediateSize: number) => MoeDescription;
  },
): DecoderOptions["feedForward"] {
  const { hiddenSize, numLayers } = options.sizes;
  const denseLayers = new Set(readIntList(config, "mlp_only_layers", { min: 0 }));
  const sparseStep = readInt(config, "decoder_sparse_step", { min: 1, default: 1 });
  const denseSize = readInt(config, "intermediate_size", { min: 1, default: options.denseDefault });
  const expertSize = readInt(config, "moe_intermediate_size", { min: 1, default: options.expertDefault });
  const hasExperts =
    readInt(config, options.experts.numExperts, { min: 0, default: options.experts.defaults.numExperts }) > 0;
  return (index, layer) => {
    const prefix = `${layer}.mlp`;
    if (hasExperts && !denseLayers.has(index) && (index + 1) % sparseStep === 0) {
      return options.moe(prefix, readExpertCount(config, index, numLayers, options.experts), expertSize);
    }
    return readMlp(weights, prefix, {
      hiddenSize,
      intermediateSize: denseSize,
      because: `layer ${index} is dense, intermediate_size = ${denseSize}`,
      activation: options.activation,
    });
  };
}
