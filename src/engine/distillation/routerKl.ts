import type { RoutingDescription } from "../model/description";
import { sigmoid, softmaxRow } from "../model/selection";

/**
 * Router probabilities of a row of logits: softmax(z), or sigmoid(z) over its sum, where the family's scores are sigmoids.
 *
 * @param out [experts], written
 */
export function routerProbabilities(
  routing: Pick<RoutingDescription, "kind">,
  logits: Float32Array,
  from: number,
  out: Float32Array,
): void {
  if (routing.kind !== "sigmoid") {
    softmaxRow(logits, from, out);
    return;
  }
  let sum = 0;
  for (let e = 0; e < out.length; e++) sum += out[e] = sigmoid(logits[from + e]!);
  for (let e = 0; e < out.length; e++) out[e]! /= sum;
}

/**
 * Mean over the tokens that count of KL(p || q) between two routers' probabilities, nats, in double precision; rounding
 * below 0 counts as 0. What separates the teacher's own routers from those that Student-Aware Router trained.
 *
 * @param before router logits [tokens, experts] that give p, `after` those that give q, each at its own hidden states
 * @param valid [tokens], 1 for those that count; null: all
 */
export function routerKl(
  routing: Pick<RoutingDescription, "kind">,
  before: Float32Array,
  after: Float32Array,
  experts: number,
  valid: Uint8Array | null,
): number {
  const [p, q] = [new Float32Array(experts), new Float32Array(experts)];
  let total = 0;
  let tokens = 0;
  for (let token = 0; token * experts < before.length; token++) {
    if (valid !== null && valid[token] === 0) continue;
    routerProbabilities(routing, before, token * experts, p);
    routerProbabilities(routing, after, token * experts, q);
    let kl = 0;
    for (let e = 0; e < experts; e++) if (p[e]! > 0) kl += p[e]! * Math.log(p[e]! / q[e]!);
    total += Math.max(0, kl);
    tokens++;
  }
  return total / tokens;
}
