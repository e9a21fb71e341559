import type { RoutingDescription } from "./description";
import { sigmoid, softmaxRow } from "./selection";

/**
 * The number that multiplies each selected expert's output, after everything the family does to it. A plain reference
 * for tests and diagnostics; the forward pass computes the same inside its graphs.
 *
 * @param logits [numTokens, numExperts], router bias included
 * @param ids [numTokens, k], as selectExperts writes them
 * @param expertScale [numExperts] that multiplies the weights of each expert, where the family has one
 * @returns [numTokens, k]
 */
export function routingWeights(
  routing: RoutingDescription,
  logits: Float32Array,
  ids: Int32Array,
  numTokens: number,
  numExperts: number,
  k: number,
  expertScale: Float32Array | null = null,
): Float32Array {
  const out = new Float32Array(numTokens * k);
  const row = new Float32Array(numExperts);
  const selected = new Float32Array(k);
  for (let token = 0; token < numTokens; token++) {
    const from = token * numExperts;
    const chosen = ids.subarray(token * k, (token + 1) * k);
    switch (routing.kind) {
      case "softmax":
        if (routing.softmax === "before") {
          softmaxRow(logits, from, row);
          chosen.forEach((id, i) => (selected[i] = row[id]!));
        } else {
          softmaxRow(
            Float32Array.from(chosen, (id) => logits[from + id]!),
            0,
            selected,
          );
        }
        scale(selected, routing);
        break;
      case "sigmoid":
        chosen.forEach((id, i) => (selected[i] = sigmoid(logits[from + id]!)));
        scale(selected, { ...routing, epsilonMode: "add" });
        break;
      case "sparse-mixer":
        sparseMixer(logits.subarray(from, from + numExperts), chosen, routing.jitter, selected);
        break;
    }
    if (expertScale !== null) chosen.forEach((id, i) => (selected[i]! *= expertScale[id]!));
    out.set(selected, token * k);
  }
  return out;
}

function scale(
  weights: Float32Array,
  rule: { renormalise: boolean; epsilon: number; epsilonMode: "add" | "clamp"; scalingFactor: number },
): void {
  let divisor = 1;
  if (rule.renormalise) {
    const sum = weights.reduce((total, weight) => total + weight, 0);
    divisor = rule.epsilonMode === "add" ? sum + rule.epsilon : Math.max(sum, rule.epsilon);
  }
  for (let i = 0; i < weights.length; i++) weights[i] = (weights[i]! / divisor) * rule.scalingFactor;
}

/**
 * SparseMixer in evaluation mode (Phi-3.5-MoE, arXiv 2409.12136): each of the two selected experts is weighted by a
 * softmax over the experts whose logit is within a relative margin 2 * jitter of its own; the second step leaves the
 * first expert out. Usually nothing else is that near, and both weights are 1.
 */
function sparseMixer(logits: Float32Array, chosen: Int32Array, jitter: number, out: Float32Array): void {
  const [lower, higher] = [chosen[0]!, chosen[1]!];
  const first = logits[higher]! > logits[lower]! ? higher : lower;
  for (const expert of chosen) {
    const max = logits[expert]!;
    let sum = 0;
    for (let e = 0; e < logits.length; e++) {
      if (expert !== first && e === first) continue;
      const logit = logits[e]!;
      const factor = Math.max(Math.abs(logit), max);
      const masked = Math.fround(Math.fround(max - logit) / factor) > 2 * jitter;
      if (!masked) sum += Math.exp(logit - max);
    }
    out[expert === lower ? 0 : 1] = 1 / sum;
  }
}
