import type { ModelDescription, MoeDescription } from "../../model/description";
import { partialLayerStatistics, type LayerStatistics, type RoutingStatisticsData } from "../layerStatistics";
import type { Trace } from "./readTrace";
import { invalidTrace, type TraceCounts, type TraceLayer } from "./traceCounts";

/** What is known beside the trace itself. */
export interface TraceOrigin {
  /** Folder of the checkpoint, or the trace's own path where none is given. */
  checkpoint: string;
  fingerprint: string;
  /** Tells layers and experts that the trace leaves open. */
  description: ModelDescription | null;
  /** Where neither the trace nor a checkpoint says it. */
  numExpertsPerToken: number | null;
}

/**
 * Routing statistics of an imported trace: tokens and frequencies, everything else missing (NaN, so that panels show no
 * value instead of a zero). `notes` say what had to be assumed.
 *
 * @throws RerouteError trace/invalid where the trace and the checkpoint do not belong together
 */
export function traceStatistics(
  { counts, notes }: Trace,
  origin: TraceOrigin,
): { statistics: RoutingStatisticsData; notes: string[] } {
  const { checkpoint, fingerprint, description } = origin;
  const assumed = [...notes];
  const layers = placeLayers(counts, description);
  if (!description && !counts.hasAllExperts) {
    assumed.push(
      "The number of experts is one more than the largest id in the trace; its checkpoint would tell it exactly",
    );
  }
  if (!description && counts.numbering === "axis") {
    assumed.push(
      "Layers are counted along the trace's axis; with its checkpoint they get their decoder layer's number",
    );
  }
  const widest = Math.max(...layers.map(({ frequency }) => frequency.length));
  // Layers of a model use as many experts a token; where one layer of the trace tells, it tells for all.
  const told = layers.map(expertsPerToken).find((count) => count !== null) ?? null;
  const known = { ...origin, numExpertsPerToken: told ?? origin.numExpertsPerToken };
  const made = layers.map((layer) => {
    const moe = description ? moeOf(description, layer.number) : null;
    return layerStatistics(layer, moe, description?.hiddenSize ?? 1, counts.hasAllExperts ? 0 : widest, known);
  });
  return { statistics: { checkpoint, fingerprint, domainNames: ["trace"], layers: made }, notes: assumed };
}

function layerStatistics(
  { number, frequency, tokens: recorded }: TraceLayer,
  moe: MoeDescription | null,
  hiddenSize: number,
  atLeast: number,
  origin: TraceOrigin,
): LayerStatistics {
  const numExperts = moe ? rowsOf(moe) : Math.max(frequency.length, atLeast);
  if (frequency.length > numExperts) {
    throw invalidTrace(
      `The trace routes to expert ${frequency.length - 1} of layer ${number}, the checkpoint has experts 0 to ${numExperts - 1} there`,
    );
  }
  const slots = frequency.reduce((sum, count) => sum + count, 0);
  const numExpertsPerToken = moe?.numExpertsPerToken ?? origin.numExpertsPerToken;
  if (numExpertsPerToken === null) {
    throw invalidTrace(
      "The trace holds sums over the experts of a token and not how many those are; give its checkpoint or the number of experts a token uses (--checkpoint DIR, --experts-per-token N)",
    );
  }
  if (numExpertsPerToken > numExperts) {
    throw invalidTrace(
      `Layer ${number} has ${numExperts} experts in the trace, a token cannot use ${numExpertsPerToken}`,
    );
  }
  const tokens = recorded ?? Math.round(slots / numExpertsPerToken);
  const layer = partialLayerStatistics({ layer: number, numExperts, numExpertsPerToken, hiddenSize }, 1, [
    "tokens",
    "frequency",
  ]);
  layer.tokens[0] = tokens;
  layer.frequency.set(frequency);
  return layer;
}

/** Experts a token, where a layer's tokens are known. */
function expertsPerToken({ frequency, tokens }: TraceLayer): number | null {
  if (tokens === null || tokens === 0) return null;
  const perToken = frequency.reduce((sum, count) => sum + count, 0) / tokens;
  return Number.isInteger(perToken) && perToken >= 1 ? perToken : null;
}

/** Gives layers their decoder layer's number; layers of the trace that are dense there are dropped. */
function placeLayers({ layers, numbering }: TraceCounts, description: ModelDescription | null): TraceLayer[] {
  if (!description) {
    const used = layers.filter(({ tokens }) => tokens !== 0);
    if (used.length > 0) return used;
    throw invalidTrace("The trace holds no token");
  }
  const sparse = description.layers.filter(({ feedForward }) => feedForward.kind === "moe").map(({ index }) => index);
  if (numbering === "axis") {
    if (layers.length === sparse.length) return layers.map((layer, i) => ({ ...layer, number: sparse[i]! }));
    if (layers.length !== description.layers.length) {
      throw invalidTrace(
        `The trace has ${layers.length} layers, the checkpoint ${sparse.length} sparse ones of ${description.layers.length}; does it belong to another model?`,
      );
    }
    return layers.filter(({ number }) => sparse.includes(number));
  }
  const unknown = layers.find(({ number }) => !sparse.includes(number));
  if (!unknown) return layers;
  throw invalidTrace(
    `The trace has layer ${unknown.number}, which is no Mixture-of-Experts layer of the checkpoint (those are ${sparse.slice(0, 8).join(", ")}${sparse.length > 8 ? ", ..." : ""})`,
  );
}

function moeOf(description: ModelDescription, layer: number): MoeDescription {
  const part = description.layers[layer]?.feedForward;
  if (part?.kind !== "moe") throw invalidTrace(`Layer ${layer} of the checkpoint has no experts`);
  return part;
}

/** Experts that a router chooses among. */
function rowsOf({ logicalToPhysical, numExperts }: MoeDescription): number {
  return logicalToPhysical?.length ?? numExperts;
}
