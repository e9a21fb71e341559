import { z } from "zod";
import type { PruningPlan } from "../../../protocol/plan";
import type { CollectedLayer } from "../../execution/collectLayers";
import { neverUsed } from "../../routing/loadBalance";
import { createRandom } from "../../tensor/random";
import { LayerEngine } from "../layer/layerEngine";
import { collect, type MethodContext } from "../methodContext";
import { groupsOf, keepAsSaid, keptCount } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";
import { outputTable, segmentErrors, sequenceError, type OutputTable } from "./subsetError";
import { backwardSearch, exhaustiveSearch, numberOfSets, type SubsetRequest, type SubsetResult } from "./subsetSearch";

const common = {
  sequences: z.int().min(1).default(32).describe("Calibration sequences that run through the experts"),
  maxTokens: z.int().min(1).default(2048).describe("Tokens of them that the search looks at in each layer"),
};

export const naeeOptions = z.strictObject({
  ...common,
  maxSets: z
    .int()
    .min(1)
    .default(5000)
    .describe("Up to this many sets are all tried; beyond, experts leave one at a time"),
});

export const cfesOptions = z.strictObject({
  ...common,
  segment: z.int().min(1).default(16).describe("Tokens whose outputs are averaged before they are compared"),
  groupSize: z.int().min(0).default(0).describe("Consecutive experts of one group; 0: the square root of their number"),
  domainRate: z
    .number()
    .min(0)
    .default(1)
    .describe("How strongly domains with larger error gain weight from layer to layer; 0: all domains equal"),
});

/**
 * NAEE (Lu et al. 2024), layer-wise: the set whose removal changes the layer's routed output least, sum over sequences of
 * the Frobenius norm; removed experts' logits are out before top-k and renormalisation. All sets are tried up to
 * `maxSets`; beyond that experts leave greedily, and the notes say so.
 */
export function planNaee(context: MethodContext, options: z.infer<typeof naeeOptions>): Promise<PruningPlan> {
  return searchedPlan(context, options, (layer, table, request, notes) => {
    const full = { ...request, error: (kept: Uint8Array) => sequenceError(table, kept) };
    const sets = numberOfSets(request.numExperts, request.count);
    if (sets <= options.maxSets && request.routingGroups === 1) {
      notes.push(`layer ${layer}: all ${sets} sets tried`);
      return exhaustiveSearch(full);
    }
    const found = backwardSearch(full, request.numExperts);
    notes.push(`layer ${layer}: greedy, ${found.evaluations} of ${sets} sets tried`);
    return found;
  });
}

/**
 * CFES (from the paper's description; its code is not public). As the paper says: the L2 discrepancy between the unpruned
 * and the pruned layer output, experts in sequential groups, a coarse choice among groups and a fine one inside, about
 * n^1.5 evaluations, 32 calibration sequences, domain weights that grow exponentially with each domain's discrepancy.
 * Chosen here: features are outputs averaged over `segment` tokens; a group's score is its cheapest known removal; groups
 * have the square root of the number of experts; a domain's weight is multiplied by exp(domainRate * its error / the mean
 * error of all domains) after each layer and weights are scaled to sum to 1; a seeded random set is looked at too, so that
 * the result is never worse than it.
 */
export function planCfes(context: MethodContext, options: z.infer<typeof cfesOptions>): Promise<PruningPlan> {
  const numDomains = context.sequences?.domainNames.length ?? 1;
  let weights = new Float64Array(numDomains).fill(1 / numDomains);
  return searchedPlan(context, options, (layer, table, request, notes) => {
    const errors = (kept: Uint8Array) => segmentErrors(table, kept, options.segment, numDomains);
    const error = (kept: Uint8Array) => errors(kept).reduce((sum, value, d) => sum + weights[d]! * value, 0);
    const size = options.groupSize === 0 ? Math.ceil(Math.sqrt(request.numExperts)) : options.groupSize;
    const found = backwardSearch({ ...request, error }, size);
    const random = randomSet(request, context.seed, layer);
    const randomError = error(maskOf(random, request.numExperts));
    const best = randomError < found.error ? { ...found, kept: random, error: randomError } : found;
    notes.push(
      `layer ${layer}: ${found.evaluations} sets tried, error ${best.error.toPrecision(4)} (a random set: ${randomError.toPrecision(4)})`,
    );
    const byDomain = errors(maskOf(best.kept, request.numExperts));
    const mean = byDomain.reduce((sum, value) => sum + value, 0) / numDomains;
    if (mean > 0) {
      weights = weights.map((weight, d) => weight * Math.exp((options.domainRate * byDomain[d]!) / mean));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      weights = weights.map((weight) => weight / total);
    }
    return best;
  });
}

/** A seeded random set of experts, the same number from every routing group. Also what tests compare with. */
export function randomSet(
  { numExperts, count, routingGroups }: Omit<SubsetRequest, "error">,
  seed: number,
  layer: number,
): number[] {
  const random = createRandom(seed, layer);
  const size = numExperts / routingGroups;
  return Array.from({ length: routingGroups }, (_, g) =>
    Array.from({ length: size }, (_, i) => ({ id: g * size + i, key: random.uniform() }))
      .sort((a, b) => a.key - b.key)
      .slice(0, count / routingGroups)
      .map(({ id }) => id),
  )
    .flat()
    .sort((a, b) => a - b);
}

async function searchedPlan(
  context: MethodContext,
  options: { sequences: number; maxTokens: number } & Record<string, number>,
  search: (layer: number, table: OutputTable, request: Omit<SubsetRequest, "error">, notes: string[]) => SubsetResult,
): Promise<PruningPlan> {
  const { description, fingerprint, seed } = context;
  const counts = new Map(
    moeLayers(description).map(({ layer, moe }) => [layer, keptCount(context.options, layer, moe)]),
  );
  const layers: PruningPlan["layers"] = {};
  const notes: string[] = [];
  await collect(context, options.sequences, async (collected) => {
    const { moe, layer } = collected;
    notes.push(...neverRoutedNote(collected));
    const engine = new LayerEngine(context.runtime, context.checkpoint, description.hiddenSize);
    try {
      const table = await outputTable(engine, collected, options.maxTokens, seed);
      const request = {
        numExperts: moe.numExperts,
        count: counts.get(layer.index)!,
        routingGroups: groupsOf(moe),
      };
      layers[String(layer.index)] = { kept: search(layer.index, table, request, notes).kept };
    } finally {
      await engine.close();
    }
  });
  return {
    schemaVersion: 1,
    paradigm: "pruning",
    method: context.options.method,
    teacherFingerprint: fingerprint,
    seed,
    options: { ...keepAsSaid(context.options), ...options },
    notes,
    layers,
  };
}

function neverRoutedNote({ layer, moe, selectedIds, numTokens }: CollectedLayer): string[] {
  const frequency = new Float64Array(moe.numExperts);
  for (const id of selectedIds) frequency[id]!++;
  const unused = neverUsed(frequency);
  if (unused.length === 0) return [];
  return [
    `layer ${layer.index}: ${unused.length} of ${moe.numExperts} experts never routed by ${numTokens} calibration tokens ` +
      `(${unused.join(", ")}); dropping them costs nothing, so they leave first`,
  ];
}

function maskOf(kept: readonly number[], numExperts: number): Uint8Array {
  const mask = new Uint8Array(numExperts);
  for (const e of kept) mask[e] = 1;
  return mask;
}
