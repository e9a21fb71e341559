import type { RoutingDescription } from "../../model/description";
import { sigmoid } from "../../model/selection";
import { routerProbabilities } from "../routerKl";

/**
 * The teacher's router probabilities on the student's axis, [tokens, E_S]: of each student expert the sum over the teacher's
 * experts behind it, over the sum of all that are left.
 *
 * @param logits the teacher's [tokens, E_T]
 * @param mapping teacher experts behind each student expert
 */
export function teacherProbabilities(
  routing: Pick<RoutingDescription, "kind">,
  logits: Float32Array,
  width: number,
  mapping: readonly (readonly number[])[],
): Float32Array {
  const tokens = logits.length / width;
  const mapped = new Float32Array(tokens * mapping.length);
  const p = new Float32Array(width);
  for (let token = 0; token < tokens; token++) {
    routerProbabilities(routing, logits, token * width, p);
    const row = mapped.subarray(token * mapping.length, (token + 1) * mapping.length);
    let total = 0;
    mapping.forEach((ids, g) => {
      let sum = 0;
      for (const id of ids) sum += p[id]!;
      row[g] = sum;
      total += sum;
    });
    for (let g = 0; g < row.length; g++) row[g]! /= total;
  }
  return mapped;
}

/**
 * The sum over tokens of share * KL(P || Q), P the teacher's probabilities and Q the student's own, and its gradient in the
 * student's logits: share (Q - P), where scores are sigmoids s times (1 - s).
 *
 * @param teacher P, [tokens, E]
 * @param logits the student's, [tokens, E]
 * @param share of each token, 0 where it does not count
 */
export function routerTerm(
  routing: Pick<RoutingDescription, "kind">,
  teacher: Float32Array,
  logits: Float32Array,
  width: number,
  share: (token: number) => number,
): { loss: number; gradient: Float32Array } {
  const gradient = new Float32Array(logits.length);
  const q = new Float32Array(width);
  let loss = 0;
  for (let token = 0; token * width < logits.length; token++) {
    const weight = share(token);
    if (weight === 0) continue;
    const from = token * width;
    routerProbabilities(routing, logits, from, q);
    for (let e = 0; e < width; e++) {
      const p = teacher[from + e]!;
      if (p > 0) loss += weight * p * Math.log(p / q[e]!);
      const slope = routing.kind === "sigmoid" ? 1 - sigmoid(logits[from + e]!) : 1;
      gradient[from + e] = weight * (q[e]! - p) * slope;
    }
  }
  return { loss, gradient };
}
