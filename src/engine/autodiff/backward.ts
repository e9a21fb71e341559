import type { GraphBuilder } from "../graph/builder";
import type { Node, Value } from "../graph/graph";
import { vjpRules } from "./rules";

/** An output of the forward graph and the gradient of the loss with respect to it, of the same shape. */
export interface Cotangent {
  output: Value;
  gradient: Value;
}

/**
 * Adds the reverse-mode gradient of sum_i <gradient_i, output_i> with respect to each of `wrt` to the builder, after the
 * forward nodes it contains. Nodes that no value of `wrt` reaches are skipped, so frozen weights get no gradient; what
 * the forward pass computes but the gradient does not need is left out when the graph is built.
 *
 * @returns one gradient per value of `wrt`, of its shape; null where no output depends on it
 * @throws Error naming the op when a rule is missing
 */
export function appendBackward(
  builder: GraphBuilder,
  cotangents: readonly Cotangent[],
  wrt: readonly Value[],
): (Value | null)[] {
  const forward = [...builder.nodes];
  const active = new Set<Value>(wrt);
  for (const node of forward) {
    if (node.inputs.some((value) => active.has(value))) for (const output of node.outputs) active.add(output);
  }
  const gradients = new Map<Value, Value>();
  const accumulate = (value: Value, gradient: Value) => {
    const known = gradients.get(value);
    gradients.set(value, known === undefined ? gradient : builder.add(known, gradient));
  };
  for (const { output, gradient } of cotangents) accumulate(output, gradient);

  for (const node of forward.reverse()) {
    const outputGradients = node.outputs.map((output) => gradients.get(output) ?? null);
    if (outputGradients.every((gradient) => gradient === null)) continue;
    const wanted = node.inputs.map((input) => active.has(input));
    if (!wanted.includes(true)) continue;
    const inputGradients = applyRule(builder, node, outputGradients, wanted);
    node.inputs.forEach((input, i) => {
      const gradient = inputGradients[i];
      if (wanted[i] && gradient) accumulate(input, gradient);
    });
  }
  return wrt.map((value) => gradients.get(value) ?? null);
}

function applyRule(builder: GraphBuilder, node: Node, gradients: (Value | null)[], wanted: boolean[]) {
  const rule = vjpRules[node.op] as ((context: unknown) => readonly (Value | null)[]) | null;
  if (rule === null) throw new Error(`no gradient rule for the ONNX op ${node.op}`);
  return rule({ builder, node, gradients, wanted });
}
