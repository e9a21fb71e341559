import type { MoeObservation, RoutingObserver } from "../execution/observer";
import { LeafSums, leavesOf, type Leaves } from "../execution/leaves";
import type { TokenSequences } from "../data/sequences";
import { RerouteError } from "../../protocol/errors";
import { addOuterProducts, momentsOf, type LogitMoments } from "./logitMoments";
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
  readonly readsRoutingOnly = true;
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
    const moments = momentsOf(observation, tokens);
    addRouting(layer, observation, tokens, moments);
    if (observation.outputs) addOutputs(layer, observation, tokens, moments, this.options.renormalises);
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

function addRouting(
  stats: LayerStatistics,
  seen: MoeObservation,
  domains: Int16Array,
  { logPartitions, weightedSums, selectedProbabilities }: LogitMoments,
): void {
  const { numRouterRows: E, numExpertsPerToken: k } = stats;
  const { routerLogits, selectedIds, routingWeights } = seen;
  const { frequency, routingWeightSum } = stats;
  const isSelected = new Uint8Array(E);
  for (let t = 0; t < seen.numTokens; t++) {
    const domain = domains[t]!;
    if (domain < 0) continue;
    const row = t * E;
    stats.tokens[domain]! += 1;
    // H = log Z - E[z], in nats.
    stats.tokenEntropySum[domain]! += logPartitions[t]! - weightedSums[t]!;
    let mass = 0;
    let lowestSelected = Infinity;
    for (let slot = t * k; slot < (t + 1) * k; slot++) {
      const expert = selectedIds[slot]!;
      const logit = routerLogits[row + expert]!;
      isSelected[expert] = 1;
      mass += selectedProbabilities[slot]!;
      if (logit < lowestSelected) lowestSelected = logit;
      frequency[domain * E + expert]! += 1;
      routingWeightSum[domain * E + expert]! += routingWeights[slot]!;
    }
    let highestUnselected = -Infinity;
    for (let e = 0; e < E; e++) {
      const logit = routerLogits[row + e]!;
      if (isSelected[e] === 0 && logit > highestUnselected) highestUnselected = logit;
    }
    for (let slot = t * k; slot < (t + 1) * k; slot++) isSelected[selectedIds[slot]!] = 0;
    stats.selectedMassSum[domain]! += mass;
    if (highestUnselected > -Infinity) stats.topKMarginSum[domain]! += lowestSelected - highestUnselected;
  }
  addOuterProducts(stats.logitGram, stats.logitSum, routerLogits, domains);
}

function mirrorGram({ logitGram, numRouterRows: E }: LayerStatistics): void {
  for (let i = 1; i < E; i++) for (let j = 0; j < i; j++) logitGram[i * E + j] = logitGram[j * E + i]!;
}

function addOutputs(
  stats: LayerStatistics,
  seen: MoeObservation,
  domains: Int16Array,
  { selectedProbabilities }: LogitMoments,
  renormalises: boolean,
): void {
  const { norms, maxima, absoluteMaxima, inputOutputCosine, sums } = seen.outputs!;
  const { routingWeights, selectedIds, numTokens } = seen;
  const { numRouterRows: E, numExpertsPerToken: k } = stats;
  const { outputNormSum, squaredNormSum, weightedNormSum, softmaxWeightedNormSum, easyEpSum } = stats;
  const { maxActivation, maxAbsoluteActivation } = stats;
  // Outputs to inputs with weights have them already.
  const { weightsInput = false } = seen;
  for (let t = 0; t < numTokens; t++) {
    const domain = domains[t]!;
    if (domain < 0) continue;
    // At least float32's epsilon.
    const mass = renormalises ? Math.max(massOf(selectedProbabilities, t, k), 2 ** -23) : 1;
    const turn = Math.max(1 - inputOutputCosine[t]!, 0);
    for (let s = 0; s < k; s++) {
      const slot = t * k + s;
      const at = domain * E + selectedIds[slot]!;
      const norm = norms[slot]!;
      if (!Number.isFinite(norm)) throw outputNotFinite(stats.layer, selectedIds[slot]!);
      const weighted = weightsInput ? norm : routingWeights[slot]! * norm;
      outputNormSum[at]! += norm;
      squaredNormSum[at]! += norm * norm;
      weightedNormSum[at]! += weighted;
      softmaxWeightedNormSum[at]! += (weightsInput ? 1 : selectedProbabilities[slot]! / mass) * norm;
      easyEpSum[at]! += weighted * turn;
      if (!(maxActivation[at]! >= maxima[slot]!)) maxActivation[at] = maxima[slot]!;
      if (!(maxAbsoluteActivation[at]! >= absoluteMaxima[slot]!)) maxAbsoluteActivation[at] = absoluteMaxima[slot]!;
    }
  }
  // Those of the leaf so far.
  stats.outputSum.set(sums);
}

/**
 * What the REAP authors divide a token's weights by where they renormalise: the mass of softmax over all logits at the selected experts. Their
 * code also selects by raw logits; here the model's own selection stands, because only selected experts run.
 */
function massOf(probabilities: Float64Array, token: number, k: number): number {
  let mass = 0;
  for (let slot = token * k; slot < (token + 1) * k; slot++) mass += probabilities[slot]!;
  return mass;
}

function outputNotFinite(layer: number, expert: number): RerouteError {
  return new RerouteError(
    "checkpoint/not-finite",
    `Expert ${expert} of layer ${layer} gives outputs that are not finite numbers while profiling; check its weights for NaN or infinity`,
  );
}
