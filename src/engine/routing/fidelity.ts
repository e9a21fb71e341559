import { z } from "zod";
import { loadChange } from "./loadBalance";
import type { RoutingFidelityLayer } from "../../protocol/evaluation";
import { LeafSums, type Leaves } from "../execution/leaves";
import { addArrays } from "../tensor/treeFold";

/** What RoutingFidelity added up so far, to go on with later. */
export const fidelitySums = z.object({
  layer: z.int().min(0),
  tokens: z.int().min(0),
  kl: z.number(),
  l1: z.number(),
  overlap: z.number(),
  exact: z.number(),
  /** [teacher experts]; null before the first chunk. */
  klByExpert: z.array(z.number()).nullable(),
  /** [teacher experts], [student experts]: tokens that went to each. */
  teacherTokens: z.array(z.number()),
  studentTokens: z.array(z.number()),
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
  /** [numTokens] 1 where both select the same experts and no others. */
  exact: Float64Array;
  /** [teacher experts] sum over tokens of the expert's KL contribution, with those of the chunks before where they were given. */
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
export function compareRouting(
  pair: RoutingPair,
  mapping: readonly (readonly number[])[],
  klByExpert?: Float64Array,
): RoutingComparison {
  const { numTokens: T, teacherTopK, studentTopK } = pair;
  const teacherExperts = pair.teacherLogits.length / Math.max(1, T);
  const studentExperts = mapping.length;
  const result: RoutingComparison = {
    kl: new Float64Array(T),
    l1: new Float64Array(T),
    overlap: new Float64Array(T),
    exact: new Float64Array(T),
    klByExpert: klByExpert ?? new Float64Array(teacherExperts),
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
    const own = pair.studentSelected.subarray(t * studentTopK, (t + 1) * studentTopK);
    const theirs = pair.teacherSelected.subarray(t * teacherTopK, (t + 1) * teacherTopK);
    for (const s of own) for (const e of mapping[s]!) selected[e] = 1;
    let shared = 0;
    for (const e of theirs) shared += selected[e]!;
    result.overlap[t] = shared / teacherTopK;
    const hasOthers = own.some((s) => !mapping[s]!.some((e) => theirs.includes(e)));
    result.exact[t] = shared === teacherTopK && !hasOthers ? 1 : 0;
  }
  return result;
}

/** Sums of one layer over tokens. */
interface Sums {
  tokens: number;
  kl: number;
  l1: number;
  overlap: number;
  exact: number;
  /** [teacher experts]; of length 0 before the first chunk. */
  klByExpert: Float64Array;
  /** [teacher experts], [student experts]; of length 0 before the first chunk. */
  teacherTokens: Float64Array;
  studentTokens: Float64Array;
}

const scalars = ["tokens", "kl", "l1", "overlap", "exact"] as const;
const arrays = ["klByExpert", "teacherTokens", "studentTokens"] as const;

const noSums = (): Sums => ({
  ...{ tokens: 0, kl: 0, l1: 0, overlap: 0, exact: 0 },
  ...{ klByExpert: new Float64Array(0), teacherTokens: new Float64Array(0), studentTokens: new Float64Array(0) },
});

function addSums(left: Sums, right: Sums): Sums {
  for (const name of scalars) left[name] += right[name];
  for (const name of arrays) {
    if (left[name].length === 0) left[name] = right[name];
    else if (right[name].length > 0) addArrays(left[name], right[name]);
  }
  return left;
}

/** Adds up chunks of one layer into the layer's row of evaluation.json, leaf by leaf (execution/leaves.ts). */
export class RoutingFidelity {
  readonly #sums: LeafSums<Sums>;
  readonly #mapping: readonly (readonly number[])[];

  /** @param sums over tokens that do not come again, which are whole blocks */
  constructor(
    readonly layer: number,
    mapping: readonly (readonly number[])[],
    leaves: Leaves,
    sums?: FidelitySums,
  ) {
    this.#mapping = mapping;
    const before = sums === undefined ? null : restored(sums);
    this.#sums = new LeafSums(leaves, noSums, addSums, before);
  }

  sums(): FidelitySums {
    const { klByExpert, teacherTokens, studentTokens, ...sums } = this.#sums.total() ?? noSums();
    const byExpert = klByExpert.length === 0 ? null : [...klByExpert];
    const loads = { teacherTokens: [...teacherTokens], studentTokens: [...studentTokens] };
    return { layer: this.layer, ...sums, klByExpert: byExpert, ...loads };
  }

  /** @param firstToken of the chunk in the text; it lies in one leaf */
  add(pair: RoutingPair, firstToken: number): RoutingComparison {
    const sums = this.#sums.at(firstToken);
    const chunk = compareRouting(pair, this.#mapping, sums.klByExpert.length === 0 ? undefined : sums.klByExpert);
    sums.klByExpert = chunk.klByExpert;
    if (sums.teacherTokens.length === 0) {
      sums.teacherTokens = new Float64Array(chunk.klByExpert.length);
      sums.studentTokens = new Float64Array(this.#mapping.length);
    }
    countTokens(sums.teacherTokens, pair.teacherSelected, pair.teacherTopK, pair.valid);
    countTokens(sums.studentTokens, pair.studentSelected, pair.studentTopK, pair.valid);
    sums.tokens += chunk.tokens;
    for (let t = 0; t < pair.numTokens; t++) {
      sums.kl += chunk.kl[t]!;
      sums.l1 += chunk.l1[t]!;
      sums.overlap += chunk.overlap[t]!;
      sums.exact += chunk.exact[t]!;
    }
    return chunk;
  }

  /** Adds the sums of the next leaves, which were made elsewhere. */
  addLeaves(sums: FidelitySums, leaves: number): void {
    this.#sums.add(restored(sums), leaves);
  }

  /** Means over tokens; experts that the student has not are null. */
  result(): RoutingFidelityLayer {
    const all = this.#sums.total() ?? noSums();
    const { tokens: counted, kl, l1, overlap, exact, klByExpert } = all;
    const tokens = Math.max(1, counted);
    const present = new Set(this.#mapping.flat());
    return {
      layer: this.layer,
      routingKl: kl / tokens,
      l1: l1 / tokens,
      topKOverlap: overlap / tokens,
      exactSet: exact / tokens,
      load: loadChange(all.teacherTokens, all.studentTokens, this.#mapping),
      klByExpert: Array.from(klByExpert, (total, e) => (present.has(e) ? total / tokens : null)),
    };
  }
}

function restored({ klByExpert, teacherTokens, studentTokens, ...sums }: FidelitySums): Sums {
  return {
    ...sums,
    klByExpert: Float64Array.from(klByExpert ?? []),
    teacherTokens: Float64Array.from(teacherTokens),
    studentTokens: Float64Array.from(studentTokens),
  };
}

/** Adds the tokens that count to the experts that they went to. */
function countTokens(into: Float64Array, selected: Int32Array, topK: number, valid: Uint8Array | undefined): void {
  for (const [i, expert] of selected.entries()) if (valid?.[Math.floor(i / topK)] !== 0) into[expert]! += 1;
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
