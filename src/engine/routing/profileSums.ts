import type { PassSums } from "../execution/passState";
import type { ModelDescription } from "../model/description";
import { RerouteError } from "../../protocol/errors";
import type { RoutingStatistics } from "./collect";
import type { LayerStatistics } from "./layerStatistics";
import type { TokenSampler } from "./tokenSampler";
import { loadRoutingStatistics, saveRoutingStatistics } from "./statisticsFile";

/**
 * Statistics of an interrupted profile in a file of their own, in the format of the finished ones. A file that cannot be
 * read, or is about another model or text, counts as none: the profile then begins anew.
 */
export function profileSums(
  file: string,
  statistics: RoutingStatistics,
  description: ModelDescription,
  sampler?: TokenSampler,
): Pick<PassSums, "save" | "load"> {
  return {
    save: (key, position) =>
      saveRoutingStatistics(file, {
        ...statistics.result(),
        ...(sampler ? { samples: sampler.samples() } : {}),
        progress: { key, ...position },
      }),
    load: async (key) => {
      const saved = await loadRoutingStatistics(file).catch((error: unknown) => {
        if (error instanceof RerouteError) return null;
        throw error;
      });
      if (saved?.progress?.key !== key) return null;
      const { domainNames } = statistics.result();
      const isSame = JSON.stringify(saved.domainNames) === JSON.stringify(domainNames);
      const { samples } = saved;
      if (
        (sampler && !samples && saved.layers.length > 0) ||
        !isSame ||
        !saved.layers.every((layer) => fits(layer, description))
      )
        return null;
      const { shard, layers } = saved.progress;
      return {
        position: { shard, layers },
        restore: () => {
          statistics.restore(saved.layers);
          if (samples) sampler?.restore(samples);
        },
      };
    },
  };
}

/** Whether saved sums have the shapes that this model's layer gives. */
function fits(saved: LayerStatistics, { layers, hiddenSize }: ModelDescription): boolean {
  const moe = layers.find(({ index }) => index === saved.layer)?.feedForward;
  if (moe?.kind !== "moe" || saved.missing !== undefined) return false;
  const { numExperts, numExpertsPerToken, logicalToPhysical } = moe;
  return (
    saved.numExperts === numExperts &&
    JSON.stringify(saved.expertOfRow) === JSON.stringify(logicalToPhysical ?? undefined) &&
    saved.numExpertsPerToken === numExpertsPerToken &&
    saved.hiddenSize === hiddenSize
  );
}
