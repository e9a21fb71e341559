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
  const scores = new Float32Array(numExperts);
  const writeScores = selectionScores(routing, correctionBias);
  const best = new TopK(k);
  const groups = groupLimitOf(routing);
  const bestGroups = groups ? new TopK(groups.topGroups) : null;
  for (let token = 0; token < numTokens; token++) {
    writeScores(routerLogits, token * numExperts, scores);
    best.clear();
    if (groups === null || bestGroups === null) {
      best.offer(scores, 0, numExperts);
    } else {
      selectGroups(groups, scores, bestGroups);
      const size = numExperts / groups.numGroups;
      for (let i = 0; i < bestGroups.ids.length; i++) {
        const first = bestGroups.ids[i]! * size;
        best.offer(scores, first, first + size);
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

type WriteScores = (logits: Float32Array, from: number, scores: Float32Array) => void;

/**
 * What top-k runs over. A softmax or sigmoid alone keeps the order of the logits, so they are left out; with a
 * correction bias the float32 scores matter.
 */
function selectionScores(routing: RoutingDescription, correctionBias: Float32Array | null): WriteScores {
  const bias = routing.kind !== "sparse-mixer" && routing.useCorrectionBias ? correctionBias : null;
  const sigmoidGroups = routing.kind === "sigmoid" && routing.groups?.score === "sum-of-two";
  if (bias === null && !sigmoidGroups) {
    return (logits, from, scores) => {
      for (let e = 0; e < scores.length; e++) scores[e] = logits[from + e]!;
    };
  }
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

/** The groups that a token may choose from, into `best`, ascending. */
function selectGroups(groups: GroupLimit, scores: Float32Array, best: TopK): void {
  const size = scores.length / groups.numGroups;
  best.clear();
  for (let group = 0; group < groups.numGroups; group++) {
    let first = -Infinity;
    let second = -Infinity;
    for (let e = group * size; e < (group + 1) * size; e++) {
      const score = scores[e]!;
      if (!(score <= first)) {
        second = first;
        first = score;
      } else if (!(score <= second)) {
        second = score;
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

  offer(scores: Float32Array, from: number, to: number): void {
    for (let id = from; id < to; id++) {
      const score = scores[id]!;
      if (this.#count < this.k || !(score <= this.#values[this.k - 1]!)) this.offerOne(id, score);
    }
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
