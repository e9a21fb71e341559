import type { CollectedLayer } from "../../execution/collectLayers";
import { routingWeights } from "../../model/routingWeights";
import { selectExperts } from "../../model/selection";
import { createRandom } from "../../tensor/random";
import { chunks, chunkTokens, gatherRows, type LayerEngine } from "../layer/layerEngine";
import { correctionBias, readVector } from "../layer/outputError";

/** Wider outputs are projected to this many random directions, which keeps distances up to a few per cent. */
const featureSize = 256;
/** A logit that no router gives: the expert cannot be selected, and softmax and sigmoid give 0. */
const never = -1e30;

/** Every expert's output on a sample of a layer's tokens: what any kept set would give follows without a forward pass. */
export interface OutputTable {
  numExperts: number;
  numTokens: number;
  columns: number;
  /** [numTokens, columns] of each expert. */
  outputs: Float32Array[];
  /** [numTokens, numExperts] */
  routerLogits: Float32Array;
  bias: Float32Array | null;
  /** [numExperts] that multiplies the routing weights of each expert; null in most families. */
  scale: Float32Array | null;
  moe: CollectedLayer["moe"];
  /** [numTokens, columns]: the unpruned routed output. */
  full: Float32Array;
  sequenceIds: Int32Array;
  domainIds: Uint8Array;
}

/** Sends the first `maxTokens` tokens through every expert. */
export async function outputTable(
  engine: LayerEngine,
  collected: CollectedLayer,
  maxTokens: number,
  seed: number,
): Promise<OutputTable> {
  const { moe, inputs, layer } = collected;
  const numTokens = Math.min(collected.numTokens, maxTokens);
  const H = inputs.width;
  const columns = Math.min(H, featureSize);
  const projection = columns < H ? { values: gaussian(H, columns, seed + layer.index), columns } : null;
  const outputs: Float32Array[] = [];
  for (let e = 0; e < moe.numExperts; e++) {
    const all = new Float32Array(numTokens * columns);
    for (const [from, to] of chunks(numTokens, chunkTokens)) {
      const x = gatherRows(
        inputs,
        Int32Array.from({ length: to - from }, (_, i) => from + i),
      );
      all.set(await engine.expertOutput(moe, e, x, projection), from * columns);
    }
    outputs.push(all);
  }
  const table = {
    numExperts: moe.numExperts,
    numTokens,
    columns,
    outputs,
    routerLogits: collected.routerLogits.subarray(0, numTokens * moe.numExperts),
    bias: await correctionBias(engine.checkpoint, moe),
    scale: moe.router.expertScale ? await readVector(engine.checkpoint, moe.router.expertScale) : null,
    moe,
    full: new Float32Array(0),
    sequenceIds: collected.sequenceIds,
    domainIds: collected.domainIds,
  };
  return { ...table, full: subsetOutput(table, new Uint8Array(moe.numExperts).fill(1)) };
}

/** [numTokens, columns]: the routed output when only some experts (1 in `kept`) can be selected. */
export function subsetOutput(table: Omit<OutputTable, "full">, kept: Uint8Array): Float32Array {
  const { numExperts: E, numTokens, columns, outputs, moe, scale } = table;
  const k = moe.numExpertsPerToken;
  const logits = table.routerLogits.slice();
  for (let i = 0; i < logits.length; i++) if (kept[i % E] === 0) logits[i] = never;
  const bias = table.bias && table.bias.map((value, e) => (kept[e] === 0 ? never : value));
  const ids = new Int32Array(numTokens * k);
  selectExperts(moe.routing, logits, numTokens, E, k, bias, ids);
  const weights = routingWeights(moe.routing, logits, ids, numTokens, E, k, scale);
  const result = new Float32Array(numTokens * columns);
  for (let slot = 0; slot < ids.length; slot++) {
    const weight = weights[slot]!;
    if (weight === 0) continue;
    const row = Math.floor(slot / k) * columns;
    const output = outputs[ids[slot]!]!;
    for (let c = 0; c < columns; c++) result[row + c]! += weight * output[row + c]!;
  }
  return result;
}

/** NAEE's loss: sum over sequences of ||F(X) - F'(X)||_F, in float64. */
export function sequenceError(table: OutputTable, kept: Uint8Array): number {
  const { full, columns, sequenceIds, numTokens } = table;
  const pruned = subsetOutput(table, kept);
  const squares = new Map<number, number>();
  for (let t = 0; t < numTokens; t++) {
    let sum = 0;
    for (let i = t * columns; i < (t + 1) * columns; i++) sum += (full[i]! - pruned[i]!) ** 2;
    squares.set(sequenceIds[t]!, (squares.get(sequenceIds[t]!) ?? 0) + sum);
  }
  return [...squares.values()].reduce((total, sum) => total + Math.sqrt(sum), 0);
}

/** ||F(X) - F'(X)||^2 / ||F(X)||^2 over all tokens, in float64. */
export function relativeError(table: OutputTable, kept: Uint8Array): number {
  const { full } = table;
  const pruned = subsetOutput(table, kept);
  let [error, size] = [0, 0];
  for (let i = 0; i < full.length; i++) {
    error += (full[i]! - pruned[i]!) ** 2;
    size += full[i]! ** 2;
  }
  return size > 0 ? error / size : 0;
}

/**
 * CFES's features: outputs averaged over runs of `segment` tokens of one sequence. Mean over a domain's segments of the L2
 * distance between the unpruned and the pruned average, for each domain ([numDomains], 0 for a domain without tokens).
 */
export function segmentErrors(table: OutputTable, kept: Uint8Array, segment: number, numDomains: number): Float64Array {
  const { full, columns, sequenceIds, domainIds, numTokens } = table;
  const pruned = subsetOutput(table, kept);
  const errors = new Float64Array(numDomains);
  const counts = new Float64Array(numDomains);
  const mean = new Float64Array(columns);
  for (let from = 0; from < numTokens;) {
    let to = from + 1;
    while (to < numTokens && to - from < segment && sequenceIds[to] === sequenceIds[from]) to++;
    mean.fill(0);
    for (let t = from; t < to; t++) {
      for (let c = 0; c < columns; c++) mean[c]! += (full[t * columns + c]! - pruned[t * columns + c]!) / (to - from);
    }
    const domain = domainIds[from]!;
    errors[domain]! += Math.sqrt(mean.reduce((sum, value) => sum + value * value, 0));
    counts[domain]!++;
    from = to;
  }
  return errors.map((error, d) => (counts[d]! > 0 ? error / counts[d]! : 0));
}

/** Random directions scaled so that squared lengths are kept on average. */
function gaussian(rows: number, columns: number, seed: number): Float32Array {
  const random = createRandom(seed, 77);
  return Float32Array.from({ length: rows * columns }, () => random.normal() / Math.sqrt(columns));
}
