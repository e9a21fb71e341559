import type { Graph, Value } from "../graph/graph";
import { providerProfiles } from "../graph/providerProfiles";
import { BlockSession, type RuntimeOptions, type Tensor } from "./session";

/** A node whose result differs between the CPU and a provider. */
export interface NodeDifference {
  /** The operation, as graph.ts names it. */
  op: string;
  /** Which of its results. */
  output: number;
  shape: readonly number[];
  /**
   * Largest difference over the result's largest magnitude, or, of sums, over that of what is summed: the gradients of a
   * softmax's logits add up to nothing but rounding. Infinite where the provider gives no number, or another shape.
   */
  error: number;
}

/**
 * Runs a graph on the CPU and on a provider and compares the float results of every node, inner ones included: what only
 * the end of a graph shows may be a plausible number. In the graph's order, so that the first one is where it begins.
 */
export async function compareNodes(
  graph: Graph,
  feeds: Readonly<Record<string, Tensor>>,
  runtime: RuntimeOptions,
): Promise<NodeDifference[]> {
  const outer = new Map(graph.outputs.map(({ name, value }) => [value, name]));
  const nameOf = (value: Value): string => outer.get(value) ?? innerName(value);
  const named = graph.nodes.flatMap(({ op, inputs, outputs }) =>
    outputs.flatMap((value, output) => (value.type === "float32" ? [{ op, inputs, output, name: nameOf(value) }] : [])),
  );
  const inner = graph.nodes.flatMap(({ outputs }) => outputs.filter((v) => v.type === "float32" && !outer.has(v)));
  const whole = {
    ...graph,
    outputs: [...graph.outputs, ...inner.map((value) => ({ name: innerName(value), value }))],
  };
  const expected = await runOnce(whole, feeds, { ...runtime, provider: "cpu" });
  const actual = await runOnce(whole, feeds, runtime);
  const { tolerance } = providerProfiles[runtime.provider];
  return named.flatMap(({ op, inputs, output, name }) => {
    const [a, b] = [actual[name]!, expected[name]!];
    const summed = sums.has(op) ? inputs.map((value) => expected[nameOf(value)] ?? feeds[value.name]) : [];
    const error = largestError(a, b, Math.max(...[b, ...summed].map(largest)));
    return error <= tolerance ? [] : [{ op, output, shape: b.shape, error }];
  });
}

/** Operations whose result may be what is left of much larger numbers. */
const sums: ReadonlySet<string> = new Set(["Add", "Sub", "ReduceSum", "ReduceMean"]);

const innerName = ({ name }: Value): string => `inner:${name}`;

async function runOnce(graph: Graph, feeds: Readonly<Record<string, Tensor>>, runtime: RuntimeOptions) {
  const session = await BlockSession.create(graph, { runtime, keepFloat32Weights: true });
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

function largest(tensor: Tensor | undefined): number {
  let most = 0;
  if (tensor?.type !== "float32") return most;
  for (const value of tensor.data as Float32Array) if (Number.isFinite(value)) most = Math.max(most, Math.abs(value));
  return most;
}

function largestError(actual: Tensor, expected: Tensor, magnitude: number): number {
  if (actual.shape.join() !== expected.shape.join()) return Infinity;
  let difference = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const [a, b] = [Number(actual.data[i]), Number(expected.data[i])];
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) continue;
    if (!Number.isFinite(a - b)) return Infinity;
    difference = Math.max(difference, Math.abs(a - b));
  }
  return difference === 0 ? 0 : difference / Math.max(magnitude, Number.MIN_VALUE);
}
