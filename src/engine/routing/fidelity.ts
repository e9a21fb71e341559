import { z } from "zod";
import type { RoutingFidelityLayer } from "../../protocol/evaluation";

/** What RoutingFidelity added up so far, to go on with later. */
export const fidelitySums = z.object({
  layer: z.int().min(0),
  tokens: z.int().min(0),
  kl: z.number(),
  l1: z.number(),
  overlap: z.number(),
  /** [teacher experts]; null before the first chunk. */
  klByExpert: z.array(z.number()).nullable(),
});
export type FidelitySums = z.infer<typeof fidelitySums>;

/** Router logits and selections of both models for the same tokens; row-major. */
export interface RoutingPair {
  numTokens: number;
  /** [numTokens, teacher experts] */
  teacherLogits: Float32Array;
  /** [numTokens, student experts] */
  studentLogits: Float32Array;
  /** [numTokens, k], each on its own model's axis. */
  teacherSelected: Int32Array;
  studentSelected: Int32Array;
  teacherTopK: number;
  studentTopK: number;
  /** 1 where a token counts; all count when absent. */
  valid?: Uint8Array;
}

/** Per-token results of one chunk; tokens that do not count hold 0. */
export interface RoutingComparison {
  /** [numTokens] KL(teacher || student) over kept experts, nats. */
  kl: Float64Array;
  /** [numTokens] sum_e |p_teacher(e) - p_student(e)| on the teacher's axis. */
  l1: Float64Array;
  /** [numTokens] share of the teacher's selection that the student selects too. */
  overlap: Float64Array;
  /** [teacher experts] sum over tokens of the expert's KL contribution. */
  klByExpert: Float64Array;
  tokens: number;
}

/**
 * Compares two routers token by token. `mapping[s]` lists the teacher experts that student expert s stands for: one for
 * pruning, a group for merging.
 *
 * KL uses the axis both share: the teacher's mass of each student expert q(s) = sum of p_T over mapping[s], renormalised
 * over all mapped experts, against p_S: sum_s q(s) log(q(s) / p_S(s)). A group's contribution is shared by its members in
 * proportion to p_T. L1 uses the teacher's whole axis: p_S counts at the group's members in the same proportion, 0 at
 * dropped experts. p is softmax(router logits) for every family, also where the model scores with a sigmoid.
 */
export function compareRouting(pair: RoutingPair, mapping: readonly (readonly number[])[]): RoutingComparison {
  const { numTokens: T, teacherTopK, studentTopK } = pair;
  const teacherExperts = pair.teacherLogits.length / Math.max(1, T);
  const studentExperts = mapping.length;
  const result: RoutingComparison = {
    kl: new Float64Array(T),
    l1: new Float64Array(T),
    overlap: new Float64Array(T),
    klByExpert: new Float64Array(teacherExperts),
    tokens: 0,
  };
  const selected = new Uint8Array(teacherExperts);
  for (let t = 0; t < T; t++) {
    if (pair.valid?.[t] === 0) continue;
    result.tokens += 1;
    const p = softmax(pair.teacherLogits.subarray(t * teacherExperts, (t + 1) * teacherExperts));
    const q = softmax(pair.studentLogits.subarray(t * studentExperts, (t + 1) * studentExperts));
    compareToken(result, t, p, q, mapping);

    selected.fill(0);
    for (const s of pair.studentSelected.subarray(t * studentTopK, (t + 1) * studentTopK)) {
      for (const e of mapping[s]!) selected[e] = 1;
    }
    let shared = 0;
    for (const e of pair.teacherSelected.subarray(t * teacherTopK, (t + 1) * teacherTopK)) shared += selected[e]!;
    result.overlap[t] = shared / teacherTopK;
  }
  return result;
}

/** Adds up chunks of one layer into the layer's row of evaluation.json. */
export class RoutingFidelity {
  #tokens = 0;
  #kl = 0;
  #l1 = 0;
  #overlap = 0;
  #klByExpert: Float64Array | null = null;
  readonly #mapping: readonly (readonly number[])[];

  constructor(
    readonly layer: number,
    mapping: readonly (readonly number[])[],
    sums?: FidelitySums,
  ) {
    this.#mapping = mapping;
    if (sums === undefined) return;
    ({ tokens: this.#tokens, kl: this.#kl, l1: this.#l1, overlap: this.#overlap } = sums);
    this.#klByExpert = sums.klByExpert && Float64Array.from(sums.klByExpert);
  }

  sums(): FidelitySums {
    const klByExpert = this.#klByExpert && [...this.#klByExpert];
    return { layer: this.layer, tokens: this.#tokens, kl: this.#kl, l1: this.#l1, overlap: this.#overlap, klByExpert };
  }

  add(pair: RoutingPair): RoutingComparison {
    const chunk = compareRouting(pair, this.#mapping);
    this.#tokens += chunk.tokens;
    this.#kl += sum(chunk.kl);
    this.#l1 += sum(chunk.l1);
    this.#overlap += sum(chunk.overlap);
    this.#klByExpert ??= new Float64Array(chunk.klByExpert.length);
    for (let e = 0; e < chunk.klByExpert.length; e++) this.#klByExpert[e]! += chunk.klByExpert[e]!;
    return chunk;
  }

  /** Means over tokens; experts that the student has not are null. */
  result(): RoutingFidelityLayer {
    const tokens = Math.max(1, this.#tokens);
    const present = new Set(this.#mapping.flat());
    const byExpert = Array.from(this.#klByExpert ?? [], (total, e) => (present.has(e) ? total / tokens : null));
    return {
      layer: this.layer,
      routingKl: this.#kl / tokens,
      l1: this.#l1 / tokens,
      topKOverlap: this.#overlap / tokens,
      klByExpert: byExpert,
    };
  }
}

function compareToken(
  into: RoutingComparison,
  t: number,
  teacher: Float64Array,
  student: Float64Array,
  mapping: readonly (readonly number[])[],
): void {
  const mass = mapping.map((experts) => experts.reduce((total, e) => total + teacher[e]!, 0));
  const mapped = mass.reduce((total, m) => total + m, 0);
  let l1 = 1 - mapped;
  mapping.forEach((experts, s) => {
    // A group's student mass is laid over its members as the teacher's is, so |difference| adds up to this.
    l1 += Math.abs(mass[s]! - student[s]!);
    const share = mass[s]! / mapped;
    if (!(share > 0)) return;
    const contribution = share * Math.log(share / student[s]!);
    into.kl[t]! += contribution;
    for (const e of experts) into.klByExpert[e]! += contribution * (teacher[e]! / mass[s]!);
  });
  into.l1[t] = Math.max(0, l1);
}

function softmax(logits: Float32Array): Float64Array {
  const p = Float64Array.from(logits);
  const largest = p.reduce((most, z) => (z > most ? z : most), -Infinity);
  let total = 0;
  for (let i = 0; i < p.length; i++) total += p[i] = Math.exp(p[i]! - largest);
  for (let i = 0; i < p.length; i++) p[i]! /= total;
  return p;
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
