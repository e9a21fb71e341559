import type { MoeObservation, RoutingObserver } from "../execution/observer";
import { LeafSums, leavesOf, type Leaves } from "../execution/leaves";
import type { TokenSequences } from "../data/sequences";
import { RerouteError } from "../../protocol/errors";
import {
  addLayerStatistics,
  emptyLayerStatistics,
  type LayerShape,
  type LayerStatistics,
  type RoutingStatisticsData,
} from "./layerStatistics";

export interface CollectOptions {
  checkpoint: string;
  fingerprint: string;
  /** The batch being profiled: which positions are padding, and each token's domain. */
  sequences: Pick<TokenSequences, "lengths" | "sequenceLength" | "domainIds" | "domainNames">;
  /** How sums are cut; for tests, absent: as everywhere. */
  leaves?: Leaves;
  /** Whether the softmax variant of REAP renormalises over the selected experts: see authorsRenormalise. */
  renormalises: boolean;
}

/**
 * Accumulates everything that pruning, merging and the dashboards need, in one streaming pass, leaf by leaf
 * (execution/leaves.ts). Observations of one layer must come in token order; nothing of an observation is kept.
 */
export class RoutingStatistics implements RoutingObserver {
  /** Layers between blocks. */
  readonly #layers = new Map<number, LayerStatistics>();
  readonly #open = new Map<number, LeafSums<LayerStatistics>>();
  readonly #leaves: Leaves;

  constructor(readonly options: CollectOptions) {
    this.#leaves = options.leaves ?? leavesOf(options.sequences.sequenceLength);
  }

  /** @throws RerouteError `checkpoint/not-finite` where a router logit or an expert's output is not a number. */
  observe(observation: MoeObservation): void {
    const layer = this.#sumsOf(observation).at(observation.firstToken);
    const tokens = validTokens(observation, this.options.sequences);
    addRouting(layer, observation, tokens);
    if (observation.outputs) addOutputs(layer, observation, tokens, this.options.renormalises);
  }

  /** All tokens of a shard, which is whole blocks, went through the layer. */
  afterLayer(layer: number): Promise<void> {
    this.#close(layer);
    return Promise.resolve();
  }

  /** The statistics so far, at the end of a block or of the text. Arrays are shared, not copied. */
  result(): RoutingStatisticsData {
    for (const layer of [...this.#open.keys()]) this.#close(layer);
    const { checkpoint, fingerprint, sequences } = this.options;
    const layers = [...this.#layers.values()].sort((a, b) => a.layer - b.layer);
    layers.forEach(mirrorGram);
    return { checkpoint, fingerprint, domainNames: [...sequences.domainNames], layers };
  }

  /** Adds the next leaves, whose statistics were made elsewhere: a node of the tree that LeafSums builds. */
  add(layers: readonly LayerStatistics[], leaves: number): void {
    for (const layer of layers) this.#sumsOf(layer).add(layer, leaves);
  }

  /** Takes over finished layers of an interrupted profile. */
  restore(layers: readonly LayerStatistics[]): void {
    for (const layer of layers) this.#layers.set(layer.layer, layer);
  }

  #close(layer: number): void {
    const total = this.#open.get(layer)?.total();
    this.#open.delete(layer);
    if (total) this.#layers.set(layer, total);
  }

  #sumsOf({ layer, numExperts, expertOfRow, numExpertsPerToken, hiddenSize }: LayerShape) {
    const known = this.#open.get(layer);
    if (known) return known;
    const mapping = expertOfRow ? { expertOfRow } : {};
    const shape = { layer, numExperts, ...mapping, numExpertsPerToken, hiddenSize };
    const domains = Math.max(1, this.options.sequences.domainNames.length);
    const empty = () => emptyLayerStatistics(shape, domains);
    const sums = new LeafSums(this.#leaves, empty, addLayerStatistics, this.#layers.get(layer) ?? null);
    this.#open.set(layer, sums);
    return sums;
  }
}

/** [numTokens] domain of each token of the chunk, -1 for padding. */
export function validTokens(
  { firstToken, numTokens }: MoeObservation,
  { lengths, sequenceLength, domainIds }: Pick<TokenSequences, "lengths" | "sequenceLength" | "domainIds">,
): Int16Array {
  const domains = new Int16Array(numTokens);
  for (let t = 0; t < numTokens; t++) {
    const token = firstToken + t;
    const sequence = Math.floor(token / sequenceLength);
    const isPadding = token - sequence * sequenceLength >= lengths[sequence]!;
    domains[t] = isPadding ? -1 : domainIds[token]!;
  }
  return domains;
}

/**
 * Whether the REAP authors' program renormalises (CerebrasResearch/reap 1970473, main.py): where config.json has a true
 * `norm_topk_prob`, whatever the model does. Mixtral has none, so its weights stay as they are although the model's sum to 1.
 */
export function authorsRenormalise(config: { [key: string]: unknown }): boolean {
  return config["norm_topk_prob"] === true;
}

function addRouting(stats: LayerStatistics, seen: MoeObservation, domains: Int16Array): void {
  const { numRouterRows: E, numExpertsPerToken: k } = stats;
  const { routerLogits, selectedIds, routingWeights } = seen;
  const isSelected = new Uint8Array(E);
  for (let t = 0; t < seen.numTokens; t++) {
    const domain = domains[t]!;
    if (domain < 0) continue;
    const z = routerLogits.subarray(t * E, (t + 1) * E);
    const { logPartition, weightedSum } = softmaxMoments(z, stats.layer);
    stats.tokens[domain]! += 1;
    // H = log Z - E[z], in nats.
    stats.tokenEntropySum[domain]! += logPartition - weightedSum;
    isSelected.fill(0);
    let mass = 0;
    let lowestSelected = Infinity;
    for (let slot = t * k; slot < (t + 1) * k; slot++) {
      const expert = selectedIds[slot]!;
      isSelected[expert] = 1;
      mass += Math.exp(z[expert]! - logPartition);
      lowestSelected = Math.min(lowestSelected, z[expert]!);
      stats.frequency[domain * E + expert]! += 1;
      stats.routingWeightSum[domain * E + expert]! += routingWeights[slot]!;
    }
    let highestUnselected = -Infinity;
    for (let e = 0; e < E; e++) if (isSelected[e] === 0 && z[e]! > highestUnselected) highestUnselected = z[e]!;
    stats.selectedMassSum[domain]! += mass;
    if (highestUnselected > -Infinity) stats.topKMarginSum[domain]! += lowestSelected - highestUnselected;
    addOuterProduct(stats.logitGram, stats.logitSum, z);
  }
}

/** log sum exp(z), and the mean of z under softmax(z). */
export function softmaxMoments(z: Float32Array, layer: number): { logPartition: number; weightedSum: number } {
  let largest = -Infinity;
  for (const value of z) if (value > largest) largest = value;
  let partition = 0;
  let weighted = 0;
  for (const value of z) {
    const exponential = Math.exp(value - largest);
    partition += exponential;
    weighted += exponential * value;
  }
  if (!Number.isFinite(partition) || !Number.isFinite(weighted)) {
    throw new RerouteError(
      "checkpoint/not-finite",
      `The router of layer ${layer} gives logits that are not finite numbers while profiling; check this layer's weights with "reroute inspect"`,
    );
  }
  return { logPartition: largest + Math.log(partition), weightedSum: weighted / partition };
}

/** Upper triangle only: mirrorGram completes it when the statistics are read. */
function addOuterProduct(gram: Float64Array, sum: Float64Array, z: Float32Array): void {
  const E = z.length;
  for (let i = 0; i < E; i++) {
    const zi = z[i]!;
    sum[i]! += zi;
    const row = i * E;
    for (let j = i; j < E; j++) gram[row + j]! += zi * z[j]!;
  }
}

function mirrorGram({ logitGram, numRouterRows: E }: LayerStatistics): void {
  for (let i = 1; i < E; i++) for (let j = 0; j < i; j++) logitGram[i * E + j] = logitGram[j * E + i]!;
}

function addOutputs(stats: LayerStatistics, seen: MoeObservation, domains: Int16Array, renormalises: boolean): void {
  const outputs = seen.outputs!;
  const { numRouterRows: E, numExpertsPerToken: k } = stats;
  for (let t = 0; t < seen.numTokens; t++) {
    const domain = domains[t]!;
    if (domain < 0) continue;
    // Outputs to inputs with weights have them already.
    const authorsWeights = seen.weightsInput ? null : softmaxWeights(seen, t, renormalises);
    const turn = Math.max(1 - outputs.inputOutputCosine[t]!, 0);
    for (let s = 0; s < k; s++) {
      const slot = t * k + s;
      const at = domain * E + seen.selectedIds[slot]!;
      const norm = outputs.norms[slot]!;
      if (!Number.isFinite(norm)) throw outputNotFinite(stats.layer, seen.selectedIds[slot]!);
      const weighted = seen.weightsInput ? norm : seen.routingWeights[slot]! * norm;
      stats.outputNormSum[at]! += norm;
      stats.squaredNormSum[at]! += norm * norm;
      stats.weightedNormSum[at]! += weighted;
      stats.softmaxWeightedNormSum[at]! += (authorsWeights?.[s] ?? 1) * norm;
      stats.easyEpSum[at]! += weighted * turn;
      stats.maxActivation[at] = Math.max(stats.maxActivation[at]!, outputs.maxima[slot]!);
      stats.maxAbsoluteActivation[at] = Math.max(stats.maxAbsoluteActivation[at]!, outputs.absoluteMaxima[slot]!);
    }
  }
  // Those of the leaf so far.
  stats.outputSum.set(outputs.sums);
}

/**
 * The REAP authors' weights: softmax over all logits, divided by the selected experts' mass (at least float32's epsilon)
 * where authorsRenormalise says so. Their code also selects by raw logits; here the model's own selection stands, because
 * only selected experts run.
 */
function softmaxWeights(seen: MoeObservation, token: number, renormalises: boolean): number[] {
  const { numRouterRows: E, numExpertsPerToken: k } = seen;
  const z = seen.routerLogits.subarray(token * E, (token + 1) * E);
  const { logPartition } = softmaxMoments(z, seen.layer);
  const selected = seen.selectedIds.subarray(token * k, (token + 1) * k);
  const probabilities = Array.from(selected, (expert) => Math.exp(z[expert]! - logPartition));
  if (!renormalises) return probabilities;
  const mass = Math.max(
    probabilities.reduce((sum, p) => sum + p, 0),
    2 ** -23,
  );
  return probabilities.map((p) => p / mass);
}

function outputNotFinite(layer: number, expert: number): RerouteError {
  return new RerouteError(
    "checkpoint/not-finite",
    `Expert ${expert} of layer ${layer} gives outputs that are not finite numbers while profiling; check its weights for NaN or infinity`,
  );
}
