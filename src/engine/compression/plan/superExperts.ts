import type { CompressOptions } from "../../../protocol/recipe";
import { overDomains, type LayerStatistics } from "../../routing/layerStatistics";

/**
 * Experts with extreme activations, by layer number: a = largest absolute channel of an expert's output; an expert is
 * "super" where a is above the 99.5th percentile over all experts of all layers and above a tenth of the largest a
 * (arXiv 2507.23279, REAP's rule). "early-layers" looks at the first 75 % of the MoE layers only.
 */
export function superExperts(
  layers: readonly LayerStatistics[],
  protection: CompressOptions["protectSuperExperts"],
): Map<number, Set<number>> {
  if (protection === "off") return new Map();
  const activations = layers.map((layer) => overDomains(layer, "maxAbsoluteActivation"));
  const all = activations.flatMap((a) => Array.from(a, (value) => Math.max(0, value)));
  const threshold = Math.max(percentile(all, 0.995), 0.1 * all.reduce((most, a) => Math.max(most, a), 0));
  const looked = protection === "all-layers" ? layers.length : Math.floor(layers.length * 0.75);
  return new Map(
    layers.slice(0, looked).flatMap((layer, i) => {
      const found = Array.from(activations[i]!.keys()).filter((expert) => activations[i]![expert]! > threshold);
      return found.length > 0 ? [[layer.layer, new Set(found)] as const] : [];
    }),
  );
}

/** Linear interpolation between order statistics, as numpy and torch.quantile do. */
function percentile(values: number[], share: number): number {
  if (values.length === 0) return 0;
  const sorted = [...values].sort((a, b) => a - b);
  const position = share * (sorted.length - 1);
  const low = Math.floor(position);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (position - low) * (sorted[high]! - sorted[low]!);
}
