import type { TokenSequences } from "../data/sequences";
import type { PieceDecoder } from "../data/tokenizer";
import type { MoeObservation, RoutingObserver } from "../execution/observer";
import { validTokens } from "./collect";
import { tokenEntropy } from "./logitMoments";
import {
  contextTokens,
  topTokens,
  windowTokens,
  type ProfileSamples,
  type SampledText,
  type TokenSamples,
} from "./samples";

/** Of the text's first tokens what every layer did is kept: at most so many of them, in at most so many bytes. */
const mostTextTokens = 2048;
const mostTextBytes = 2 ** 23;

/** Tokens of which everything is kept, for a model with so many experts a token and MoE layers. */
export function sampledTokens(numTokens: number, expertsPerToken: number, layers: number): number {
  const bytesOfToken = 4 * layers * (2 * expertsPerToken + 1);
  return Math.min(numTokens, mostTextTokens, Math.floor(mostTextBytes / bytesOfToken));
}

/** Samples tokens beside the statistics. */
export class TokenSampler implements RoutingObserver {
  readonly readsRoutingOnly = true;
  readonly #layers = new Map<number, TokenSamples>();

  constructor(
    private readonly sequences: Pick<TokenSequences, "ids" | "lengths" | "sequenceLength" | "domainIds">,
    private readonly numMoeLayers: number,
  ) {}

  observe(seen: MoeObservation): void {
    const { layer, firstToken, numTokens, numRouterRows: rows, numExpertsPerToken: k } = seen;
    let samples = this.#layers.get(layer);
    if (!samples) {
      samples = emptySamples(rows, k, sampledTokens(this.sequences.ids.length, k, this.numMoeLayers));
      this.#layers.set(layer, samples);
    }
    const domains = validTokens(seen, this.sequences);
    for (let t = 0; t < numTokens; t++) {
      if (domains[t]! < 0) continue;
      const position = firstToken + t;
      for (let slot = t * k; slot < (t + 1) * k; slot++)
        insert(samples, seen.selectedIds[slot]!, position, seen.routingWeights[slot]!, domains[t]!);
      if (position >= samples.tokenEntropy.length) continue;
      samples.tokenRows.set(seen.selectedIds.subarray(t * k, (t + 1) * k), position * k);
      samples.tokenWeights.set(seen.routingWeights.subarray(t * k, (t + 1) * k), position * k);
      samples.tokenEntropy[position] = tokenEntropy(seen, t);
    }
  }

  /** Takes in samples of tokens from `firstToken` on, which another sampler has made of that part of the text alone. */
  add({ layers }: ProfileSamples, firstToken: number): void {
    for (const [layer, of] of layers) {
      const rows = of.topPositions.length / topTokens;
      const k = of.tokenRows.length / of.tokenEntropy.length;
      let samples = this.#layers.get(layer);
      if (!samples) {
        samples = emptySamples(rows, k, sampledTokens(this.sequences.ids.length, k, this.numMoeLayers));
        this.#layers.set(layer, samples);
      }
      for (let i = 0; i < of.topPositions.length; i++) {
        if (of.topPositions[i]! < 0) continue;
        const row = Math.floor(i / topTokens);
        insert(samples, row, of.topPositions[i]! + firstToken, of.topWeights[i]!, of.topDomains[i]!);
      }
      const tokens = Math.min(of.tokenEntropy.length, samples.tokenEntropy.length - firstToken);
      if (tokens <= 0) continue;
      samples.tokenRows.set(of.tokenRows.subarray(0, tokens * k), firstToken * k);
      samples.tokenWeights.set(of.tokenWeights.subarray(0, tokens * k), firstToken * k);
      samples.tokenEntropy.set(of.tokenEntropy.subarray(0, tokens), firstToken);
    }
  }

  /** The samples so far; arrays are shared. */
  samples(): ProfileSamples {
    return { layers: new Map([...this.#layers].sort(([a], [b]) => a - b)), text: null };
  }

  /** Takes over those of an interrupted profile. */
  restore({ layers }: ProfileSamples): void {
    for (const [layer, samples] of layers) this.#layers.set(layer, samples);
  }

  /** With the text around them. `decode` gives the text of each id. */
  result(decode: PieceDecoder): ProfileSamples {
    const { layers } = this.samples();
    return { layers, text: sampledText(layers, this.sequences, decode) };
  }
}

function emptySamples(rows: number, expertsPerToken: number, tokens: number): TokenSamples {
  return {
    topPositions: new Int32Array(rows * topTokens).fill(-1),
    topWeights: new Float32Array(rows * topTokens),
    topDomains: new Int32Array(rows * topTokens),
    tokenRows: new Int32Array(tokens * expertsPerToken).fill(-1),
    tokenWeights: new Float32Array(tokens * expertsPerToken),
    tokenEntropy: new Float32Array(tokens),
  };
}

/** Keeps the row's list sorted; a position that is there already is not taken twice. */
function insert(
  { topPositions, topWeights, topDomains }: TokenSamples,
  row: number,
  position: number,
  weight: number,
  domain: number,
): void {
  const first = row * topTokens;
  const last = first + topTokens - 1;
  const isBehind = (at: number): boolean =>
    topPositions[at]! < 0 || weight > topWeights[at]! || (weight === topWeights[at] && position < topPositions[at]!);
  if (!isBehind(last) || topPositions.subarray(first, last + 1).includes(position)) return;
  let at = last;
  for (; at > first && isBehind(at - 1); at--) {
    topPositions[at] = topPositions[at - 1]!;
    topWeights[at] = topWeights[at - 1]!;
    topDomains[at] = topDomains[at - 1]!;
  }
  topPositions[at] = position;
  topWeights[at] = weight;
  topDomains[at] = domain;
}

function sampledText(
  layers: ReadonlyMap<number, TokenSamples>,
  { ids, sequenceLength, lengths }: Pick<TokenSequences, "ids" | "sequenceLength" | "lengths">,
  decode: PieceDecoder,
): SampledText {
  const tokens = [...layers.values()][0]?.tokenEntropy.length ?? 0;
  const tokenIds = ids.slice(0, tokens);
  const windows = new Map<number, Int32Array>();
  const used = new Set(tokenIds);
  for (const [layer, { topPositions }] of layers) {
    const around = new Int32Array(topPositions.length * windowTokens).fill(-1);
    topPositions.forEach((position, i) => {
      if (position < 0) return;
      const start = position - (position % sequenceLength);
      const end = start + lengths[start / sequenceLength]!;
      for (let w = 0; w < windowTokens; w++) {
        const at = position - contextTokens + w;
        if (at < start || at >= end) continue;
        around[i * windowTokens + w] = ids[at]!;
        used.add(ids[at]!);
      }
    });
    windows.set(layer, around);
  }
  const known = [...used].sort((a, b) => a - b);
  const texts = decode(known);
  const pieces = Object.fromEntries(known.map((id, i) => [id, texts[i]!]));
  return { sequenceLength, tokenIds, windows, pieces };
}
