import type { GroupLimit, RoutingDescription } from "./description";

/**
 * Which experts each token goes to, by the family's own rule: ids ascending in each token, ties to the lower id. NaN
 * counts as the largest score, so that it reaches the loss, where it is reported, instead of being passed over.
 *
 * @param routerLogits [numTokens, numExperts]
 * @param correctionBias [numExperts], or null where the routing uses none
 * @param out [numTokens, k], written
 */
export function selectExperts(
  routing: RoutingDescription,
  routerLogits: Float32Array,
  numTokens: number,
  numExperts: number,
  k: number,
  correctionBias: Float32Array | null,
  out: Int32Array,
): void {
  const scoreRow = selectionScores(routing, correctionBias);
  const ownScores = scoreRow === null ? null : new Float32Array(numExperts);
  const best = new TopK(k);
  const groups = groupLimitOf(routing);
  const bestGroups = groups ? new TopK(groups.topGroups) : null;
  for (let token = 0; token < numTokens; token++) {
    const logitsFrom = token * numExperts;
    if (scoreRow !== null && ownScores !== null) scoreRow(routerLogits, logitsFrom, ownScores);
    const scores = ownScores ?? routerLogits;
    const from = ownScores === null ? logitsFrom : 0;
    best.clear();
    if (groups === null || bestGroups === null) {
      best.offer(scores, from, 0, numExperts);
    } else {
      const size = numExperts / groups.numGroups;
      selectGroups(groups, size, scores, from, bestGroups);
      for (let i = 0; i < bestGroups.ids.length; i++) {
        const first = bestGroups.ids[i]! * size;
        best.offer(scores, from, first, first + size);
      }
    }
    best.sortIds();
    out.set(best.ids, token * k);
  }
}

/** The limit to a few groups of experts, or null where a token may choose any. */
export function groupLimitOf(routing: RoutingDescription): GroupLimit | null {
  return routing.kind === "sparse-mixer" ? null : routing.groups;
}

/** Reads one row of logits, from `from` on, and writes its scores. */
type ScoreRow = (logits: Float32Array, from: number, scores: Float32Array) => void;

/**
 * What top-k runs over; null: the logits. A softmax or sigmoid alone keeps their order, so it is left out; with a
 * correction bias the float32 scores matter.
 */
function selectionScores(routing: RoutingDescription, correctionBias: Float32Array | null): ScoreRow | null {
  const bias = routing.kind !== "sparse-mixer" && routing.useCorrectionBias ? correctionBias : null;
  // A sum of two scores has another order than one of two logits.
  if (bias === null && groupLimitOf(routing)?.score !== "sum-of-two") return null;
  const addBias = (scores: Float32Array) => {
    if (bias !== null) for (let e = 0; e < scores.length; e++) scores[e]! += bias[e]!;
  };
  if (routing.kind === "sigmoid") {
    return (logits, from, scores) => {
      for (let e = 0; e < scores.length; e++) scores[e] = sigmoid(logits[from + e]!);
      addBias(scores);
    };
  }
  return (logits, from, scores) => {
    softmaxRow(logits, from, scores);
    addBias(scores);
  };
}

/** The groups of `size` experts that a token may choose from, into `best`, ascending. */
function selectGroups(groups: GroupLimit, size: number, scores: Float32Array, from: number, best: TopK): void {
  best.clear();
  for (let group = 0; group < groups.numGroups; group++) {
    const start = from + group * size;
    let first = -Infinity;
    let second = -Infinity;
    for (let e = start; e < start + size; e++) {
      const score = scores[e]!;
      if (score <= second) continue;
      if (score <= first) {
        second = score;
      } else {
        second = first;
        first = score;
      }
    }
    best.offerOne(group, groups.score === "max" || size < 2 ? first : Math.fround(first + second));
  }
  best.sortIds();
}

/** The k largest of a row, found in one pass; ids offered in ascending order, so ties stay with the lower one. */
class TopK {
  readonly ids: Int32Array;
  readonly #values: Float32Array;
  #count = 0;

  constructor(private readonly k: number) {
    this.ids = new Int32Array(k);
    this.#values = new Float32Array(k);
  }

  clear(): void {
    this.#count = 0;
  }

  /** Offers ids [first, end), whose scores begin at `from` for id 0. */
  offer(scores: Float32Array, from: number, first: number, end: number): void {
    let threshold = this.#threshold();
    for (let id = first; id < end; id++) {
      const score = scores[from + id]!;
      if (score <= threshold) continue;
      this.offerOne(id, score);
      threshold = this.#threshold();
    }
  }

  /** No score up to this one gets in; nothing compares with NaN while there is room. */
  #threshold(): number {
    return this.#count < this.k ? NaN : this.#values[this.k - 1]!;
  }

  offerOne(id: number, score: number): void {
    const values = this.#values;
    const value = Number.isNaN(score) ? Infinity : score;
    let place = this.#count;
    if (place === this.k) {
      if (value <= values[place - 1]!) return;
      place--;
    } else {
      this.#count++;
    }
    for (; place > 0 && value > values[place - 1]!; place--) {
      values[place] = values[place - 1]!;
      this.ids[place] = this.ids[place - 1]!;
    }
    values[place] = value;
    this.ids[place] = id;
  }

  sortIds(): void {
    const ids = this.ids;
    for (let i = 1; i < ids.length; i++) {
      const id = ids[i]!;
      let place = i;
      for (; place > 0 && ids[place - 1]! > id; place--) ids[place] = ids[place - 1]!;
      ids[place] = id;
    }
  }
}

/** 1 / (1 + e^-x) in float32. */
export function sigmoid(x: number): number {
  return Math.fround(1 / (1 + Math.exp(-x)));
}

/** Softmax of one row of logits, [row.length] elements from `from` on, into `row`. */
export function softmaxRow(logits: Float32Array, from: number, row: Float32Array): void {
  let max = -Infinity;
  for (let e = 0; e < row.length; e++) max = Math.max(max, logits[from + e]!);
  let sum = 0;
  for (let e = 0; e < row.length; e++) {
    const power = Math.exp(logits[from + e]! - max);
    row[e] = power;
    sum += power;
  }
  for (let e = 0; e < row.length; e++) row[e]! /= sum;
}
