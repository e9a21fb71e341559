import type { z } from "zod";
import type { MergingPlan } from "../../../protocol/plan";
import type { CollectedLayer } from "../../execution/collectLayers";
import { softmaxRow } from "../../model/selection";
import { MatrixProducts } from "../../linalg/products";
import { compressLayer } from "../layer/compressLayers";
import { LayerEngine } from "../layer/layerEngine";
import { collect, type MethodContext } from "../methodContext";
import { groupsOf } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";
import { mergeMethod } from "./applyMerging";
import { pseudoPruningGroups, withinRoutingGroups } from "./groups";
import type { MergeGroup } from "./mergeGroup";
import { groupCounts, mergingPlan, neverRouted } from "./mergingPlan";
import type { reamOptions } from "./options";

/**
 * REAM (arXiv 2604.04356), layer after layer: a layer is grouped and merged from what the merged layers before it give,
 * so planning already does the work; applying the plan finds it done.
 */
export async function planReam(context: MethodContext, options: z.infer<typeof reamOptions>): Promise<MergingPlan> {
  const counts = new Map(moeLayers(context.description).map(({ layer }, i) => [layer, groupCounts(context)[i]!]));
  const chosen = {
    ...options,
    alignment: "activations" as const,
    merge: "average",
    sequential: true,
  };
  const layers = new Map<number, MergeGroup[]>();
  const notes: string[] = [];
  const empty = mergingPlan(context, chosen, [], []);
  const method = mergeMethod(context, empty, (layer) => layers.get(layer)!);
  const products = new MatrixProducts(context.runtime);
  try {
    await collect(context, options.sequences, async (collected) => {
      const { layer, moe } = collected;
      const { saliency, distance, frequency } = await describeExperts(context, collected, options.saliency);
      notes.push(...neverRouted(layer.index, frequency, collected.numTokens));
      const groups = withinRoutingGroups(moe.numExperts, counts.get(layer.index)!, groupsOf(moe), (experts, count) =>
        pseudoPruningGroups(experts, count, saliency, distance, moe.numExperts, groupSizeOf(options, moe.numExperts)),
      );
      layers.set(layer.index, groups);
      await compressLayer(method, products, layer.index, moe, collected);
    });
  } finally {
    await products.close();
  }
  return mergingPlan(context, chosen, notes, [...layers]);
}

/** The paper's 16 for 128 experts and 32 for 512; few experts in one large group would spoil its centroid. */
function groupSizeOf({ groupSize }: z.infer<typeof reamOptions>, numExperts: number): number {
  return groupSize === 0 ? Math.min(32, Math.max(2, Math.round(numExperts / 8))) : groupSize;
}

/** Sequences that the authors' code takes at a time, over which it averages means. */
const batchSequences = 8;

/**
 * Saliency over the tokens routed to an expert, p the softmax over all experts, not renormalised; zeros become
 * min(0.5, smallest positive):
 *   squared   mean p² ||f||, what the authors' code computes (SamsungSAILMontreal/ream 84a3030): its experts' outputs are
 *             gated already when its REAP multiplies their norms by the gate. Means of batches of 8 sequences, averaged over
 *             all batches; one without a token for the expert counts 0
 *   printed   mean p ||f||, REAP's formula (Eq. 9), which its docstring names
 * Distance 1 - 1/2 [(cos(a_i, a_j) + 1)/2 + (1 - d_ij / max d)], a_e the mean over all tokens of softmax_e f_e, d the
 * Euclidean distance of router-logit columns of unit length.
 */
async function describeExperts(context: MethodContext, collected: CollectedLayer, kind: "squared" | "printed") {
  const { moe, routerLogits, selectedIds, sequenceIds, numTokens } = collected;
  const E = moe.numExperts;
  const k = moe.numExpertsPerToken;
  const { hiddenSize: H } = context.description;
  const batchOf = (t: number) => (kind === "squared" ? Math.floor(sequenceIds[t]! / batchSequences) : 0);
  const batches = batchOf(numTokens - 1) + 1;
  /** Tokens of each batch that each expert gets. */
  const reached = new Float64Array(batches * E);
  for (const [slot, id] of selectedIds.entries()) reached[batchOf(Math.floor(slot / k)) * E + id]!++;
  const frequency = new Float64Array(E);
  reached.forEach((count, at) => (frequency[at % E]! += count));
  const engine = new LayerEngine(context.runtime, context.checkpoint, H);
  const logitGram = new Float64Array(E * E);
  try {
    const { sums, norms: saliency } = await engine.allExperts(collected, (from, rows) => {
      const columns = new Float32Array(rows * E);
      const routed = new Float32Array(rows * E);
      const row = new Float32Array(E);
      for (let t = 0; t < rows; t++) {
        softmaxRow(routerLogits, (from + t) * E, row);
        columns.set(
          row.map((p) => p / numTokens),
          t * E,
        );
        for (let j = 0; j < k; j++) {
          const e = selectedIds[(from + t) * k + j]!;
          const weight = kind === "squared" ? row[e]! ** 2 : row[e]!;
          routed[t * E + e] = weight / reached[batchOf(from + t) * E + e]! / batches;
        }
      }
      return { columns, norms: routed };
    });
    for (let from = 0; from < numTokens; from += 4096) {
      await engine.addGram(routerLogits.subarray(from * E, Math.min(numTokens, from + 4096) * E), E, logitGram);
    }
    const smallest = saliency.reduce((least, s) => (s > 0 && s < least ? s : least), 0.5);
    return {
      frequency,
      saliency: saliency.map((s) => (s > 0 ? s : smallest)),
      distance: reamDistance(sums, H, logitGram, E),
    };
  } finally {
    await engine.close();
  }
}

/** [E, E]; exported for its test. */
export function reamDistance(gatedMeans: Float64Array, H: number, logitGram: Float64Array, E: number): Float64Array {
  const cosineOf = (dot: (i: number, j: number) => number) => (i: number, j: number) => {
    const size = Math.sqrt(dot(i, i) * dot(j, j));
    return size > 0 ? dot(i, j) / size : 0;
  };
  const outputs = cosineOf((i, j) => {
    let sum = 0;
    for (let h = 0; h < H; h++) sum += gatedMeans[i * H + h]! * gatedMeans[j * H + h]!;
    return sum;
  });
  const logits = cosineOf((i, j) => logitGram[i * E + j]!);
  const apart = new Float64Array(E * E);
  for (let i = 0; i < E; i++) {
    for (let j = 0; j < E; j++) apart[i * E + j] = i === j ? 0 : Math.sqrt(Math.max(0, 2 - 2 * logits(i, j)));
  }
  const farthest = apart.reduce((most, d) => Math.max(most, d), 0);
  return apart.map((d, at) => {
    const [i, j] = [Math.floor(at / E), at % E];
    if (i === j) return 0;
    return 1 - ((outputs(i, j) + 1) / 2 + (farthest > 0 ? 1 - d / farthest : 1)) / 2;
  });
}
