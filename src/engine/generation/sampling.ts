/** How the next token is chosen; the names, their order and their meaning are those of transformers' `generate`. */
export interface SamplingSettings {
  /** false: the token with the largest logit, the lower id where two are equal. */
  doSample: boolean;
  /** Logits are divided by it; above 0. */
  temperature: number;
  /** Only the so many largest logits, and those equal to the last of them; 0: all. */
  topK: number;
  /** The fewest tokens whose probabilities reach this, at least one; 1: all. */
  topP: number;
  /** Only tokens with at least this share of the largest probability; 0: all. */
  minP: number;
  /** Logits of tokens that prompt or response hold: divided by it above 0, multiplied below. 1: as they are. */
  repetitionPenalty: number;
}

/**
 * The next token of a sequence.
 *
 * @param logits [vocabulary], not changed
 * @param seen ids of prompt and response, which a repetition penalty is for
 * @param banned ids that may not come
 * @param uniform a number in [0, 1): the same one gives the same token
 */
export function nextToken(
  logits: Float32Array,
  settings: SamplingSettings,
  seen: Iterable<number>,
  banned: readonly number[],
  uniform: number,
): number {
  if (!settings.doSample) return largestOf(adjusted(logits, settings, seen, banned));
  return draw(tokenWeights(logits, settings, seen, banned), uniform);
}

/**
 * The distribution that `nextToken` draws from, not normalised, [vocabulary]: penalty, bans, temperature, top_k, top_p,
 * min_p, in this order; 0 for tokens that cannot come.
 */
export function tokenWeights(
  logits: Float32Array,
  settings: SamplingSettings,
  seen: Iterable<number>,
  banned: readonly number[] = [],
): Float64Array {
  const scores = adjusted(logits, settings, seen, banned);
  const { temperature, topK, topP, minP } = settings;
  const largest = scores[largestOf(scores)]!;
  const floor = topK > 0 && topK < scores.length ? kthLargest(scores, topK) : -Infinity;
  const weights = new Float64Array(scores.length);
  let sum = 0;
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id]!;
    if (score < floor) continue;
    const weight = Math.exp((score - largest) / temperature);
    weights[id] = weight;
    sum += weight;
  }
  if (topP < 1) keepTopP(weights, sum, topP);
  if (minP > 0) weights.forEach((weight, id) => weight < minP && (weights[id] = 0));
  return weights;
}

/** The token where the weights, summed by ascending id, pass `uniform` of their sum. */
export function draw(weights: Float64Array, uniform: number): number {
  let total = 0;
  for (let id = 0; id < weights.length; id++) total += weights[id]!;
  const target = uniform * total;
  let sum = 0;
  let last = 0;
  for (let id = 0; id < weights.length; id++) {
    const weight = weights[id]!;
    if (weight === 0) continue;
    sum += weight;
    if (target < sum) return id;
    last = id;
  }
  return last;
}

function adjusted(
  logits: Float32Array,
  { repetitionPenalty }: SamplingSettings,
  seen: Iterable<number>,
  banned: readonly number[],
): Float32Array {
  if (repetitionPenalty === 1 && banned.length === 0) return logits;
  const scores = logits.slice();
  if (repetitionPenalty !== 1) {
    for (const id of new Set(seen)) {
      const score = logits[id]!;
      scores[id] = score < 0 ? score * repetitionPenalty : score / repetitionPenalty;
    }
  }
  for (const id of banned) scores[id] = -Infinity;
  return scores;
}

function largestOf(scores: Float32Array): number {
  let best = 0;
  for (let id = 1; id < scores.length; id++) if (scores[id]! > scores[best]!) best = id;
  return best;
}

/** By a heap of the k largest so far, the least of them on top. */
function kthLargest(scores: Float32Array, k: number): number {
  const heap = scores.slice(0, k).sort();
  for (let id = k; id < scores.length; id++) {
    const score = scores[id]!;
    if (score <= heap[0]!) continue;
    let at = 0;
    for (let child = 1; child < k; child = 2 * at + 1) {
      if (child + 1 < k && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= score) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = score;
  }
  return heap[0]!;
}

/**
 * Drops weights from the smallest up, and of equal ones the higher ids first, as long as those dropped come to at most 1 - p
 * of all. Together they cannot come to more where each is below (1 - p) / their number, so only the others are sorted.
 */
function keepTopP(weights: Float64Array, sum: number, topP: number): void {
  const droppable = (1 - topP) * sum;
  const surely = droppable / weights.length;
  let dropped = 0;
  for (let id = 0; id < weights.length; id++) {
    if (weights[id]! >= surely) continue;
    dropped += weights[id]!;
    weights[id] = 0;
  }
  const sorted = weights.filter((weight) => weight > 0).sort();
  let ties = 0;
  let floor = sorted.at(-1)!;
  for (let i = 0; i < sorted.length; i++) {
    ties = i > 0 && sorted[i] === sorted[i - 1] ? ties + 1 : 0;
    dropped += sorted[i]!;
    floor = sorted[i]!;
    if (dropped > droppable) break;
  }
  for (let id = weights.length - 1; id >= 0; id--) {
    if (weights[id]! > floor) continue;
    if (weights[id]! === floor && ties <= 0) continue;
    if (weights[id] === floor) ties--;
    weights[id] = 0;
  }
}
