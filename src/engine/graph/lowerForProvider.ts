import type { Node } from "./graph";
import { floatVector, int64, reduceAxis, step, type OnnxNode } from "./onnxNode";
import type { ProviderProfile, ReplacedOp } from "./providerProfiles";

/** The lowering of a replaced operation to operations that every provider has and computes rightly. */
export function replacementOf(node: Node, { replaced }: ProviderProfile): OnnxNode[] | null {
  if (!replaced.has(node.op as ReplacedOp)) return null;
  const lower = replacements[node.op as ReplacedOp] as (node: Node) => OnnxNode[] | null;
  return lower(node);
}

const replacements: { [O in ReplacedOp]: (node: Node<O>) => OnnxNode[] | null } = {
  // The result is the provider's; the inverse deviation is 1 / sqrt(mean(x^2) + epsilon).
  RmsNorm: (node) => {
    const [x, weight] = node.inputs;
    const [result, inverse] = node.outputs.map(({ name }) => name);
    const { epsilon } = node.attributes;
    const part = (name: string) => `${inverse!}/${name}`;
    const added = floatVector(epsilon);
    const norm = step("SimplifiedLayerNormalization", [x!.name, weight!.name], result!, [
      ["axis", -1],
      ["epsilon", { float: epsilon }],
    ]);
    return [
      norm,
      step("Mul", [x!.name, x!.name], part("squares")),
      reduceAxis("ReduceMean", part("squares"), x!.shape.length - 1, part("mean")),
      step("Add", [part("mean"), added.name], part("shifted"), [], [added]),
      step("Sqrt", [part("shifted")], part("deviation")),
      step("Reciprocal", [part("deviation")], inverse!),
    ];
  },
  // FusedMatMul, which takes transposed operands, has no kernel.
  MatMul: (node) => {
    const { transA, transB } = node.attributes;
    if (!transA && !transB) return null;
    const result = node.outputs[0]!.name;
    const sides = node.inputs.map(({ name, shape }, side) => {
      if (!(side === 0 ? transA : transB)) return { name, nodes: [] };
      const transposed = `${result}/${side === 0 ? "a" : "b"}`;
      const rank = shape.length;
      const order = Array.from({ length: rank }, (_, i) => (i < rank - 2 ? i : 2 * rank - 3 - i));
      return { name: transposed, nodes: [step("Transpose", [name], transposed, [["perm", order]])] };
    });
    const product = step(
      "MatMul",
      sides.map(({ name }) => name),
      result,
    );
    return [...sides.flatMap(({ nodes }) => nodes), product];
  },
  LogSoftmax: (node) => {
    const [x] = node.inputs;
    const rank = x!.shape.length;
    return logSoftmax(x!.name, node.outputs[0]!.name, (node.attributes.axis + rank) % rank);
  },
  SoftmaxKl: (node) => {
    const [target, own] = node.inputs;
    const [kl, targetShares, logOwn] = node.outputs.map(({ name }) => name);
    const part = (name: string) => `${kl!}/${name}`;
    const axis = own!.shape.length - 1;
    return [
      ...logSoftmax(target!.name, part("target"), axis),
      ...logSoftmax(own!.name, logOwn!, axis),
      step("Exp", [part("target")], targetShares!),
      step("Sub", [part("target"), logOwn!], part("difference")),
      step("Mul", [targetShares!, part("difference")], part("terms")),
      reduceAxis("ReduceSum", part("terms"), axis, kl!),
    ];
  },
  // Its kernel refuses a tensor without rows, which an expert without tokens has: one row of zeros is added, and taken away.
  ReduceMax: (node) => {
    const [x] = node.inputs;
    const { axes, keepDims } = node.attributes;
    if (typeof x!.shape[0] === "number" || axes.includes(0)) return null;
    const name = node.outputs[0]!.name;
    const [pads, first, one, last, of] = [int64([0, 1]), int64([0]), int64([1]), int64([-1]), int64(axes)];
    const keep: OnnxNode["attributes"] = [["keepdims", keepDims ? 1 : 0]];
    return [
      step("Pad", [x!.name, pads.name, "", first.name], `${name}/padded`, [], [pads, first]),
      step("ReduceMax", [`${name}/padded`, of.name], `${name}/all`, keep, [of]),
      step("Slice", [`${name}/all`, first.name, last.name, first.name, one.name], name, [], [first, last, one]),
    ];
  },
  // ConstantOfShape has no kernel: the zeros are one zero, expanded.
  ScatterAdd: (node) => {
    const [like, indices, updates] = node.inputs;
    const name = node.outputs[0]!.name;
    const zero = floatVector(0);
    if (updates!.type !== "float32") return null;
    return [
      step("Shape", [like!.name], `${name}/shape`),
      step("Expand", [zero.name, `${name}/shape`], `${name}/zeros`, [], [zero]),
      step("ScatterElements", [`${name}/zeros`, indices!.name, updates!.name], name, [
        ["axis", node.attributes.axis],
        ["reduction", "add"],
      ]),
    ];
  },
};

/** x - max - log(sum(exp(x - max))) */
function logSoftmax(x: string, result: string, axis: number): OnnxNode[] {
  const part = (name: string) => `${result}/${name}`;
  return [
    reduceAxis("ReduceMax", x, axis, part("max")),
    step("Sub", [x, part("max")], part("below")),
    step("Exp", [part("below")], part("powers")),
    reduceAxis("ReduceSum", part("powers"), axis, part("sum")),
    step("Log", [part("sum")], part("log")),
    step("Sub", [part("below"), part("log")], result),
  ];
}

/**
 * Split and Concat of at most so many parts, however many a graph asks for: those of more are made of several. Sizes of a
 * Split that are not known before the graph runs are themselves split, and summed.
 */
export function withinBuffers(node: OnnxNode, { mostBuffers }: ProviderProfile): OnnxNode[] {
  const most = mostBuffers - 1;
  if (node.op === "Concat" && node.inputs.length > most) return concatTree(node, most);
  if (node.op === "Split" && node.outputs.length > most) return splitTree(node, most);
  return [node];
}

function concatTree(node: OnnxNode, most: number): OnnxNode[] {
  const groups = inGroups(node.inputs, most);
  const names = groups.map((group, i) => (group.length === 1 ? group[0]! : `${node.outputs[0]!}/part${i}`));
  const parts = groups.flatMap((inputs, i) =>
    inputs.length === 1 ? [] : [{ ...node, inputs, outputs: [names[i]!], constants: [] }],
  );
  return [...parts, ...withTree({ ...node, inputs: names }, most)];
}

function withTree(node: OnnxNode, most: number): OnnxNode[] {
  return node.inputs.length > most ? concatTree(node, most) : [node];
}

function splitTree(node: OnnxNode, most: number): OnnxNode[] {
  const [data, sizes] = node.inputs;
  const groups = inGroups(node.outputs, Math.ceil(node.outputs.length / Math.ceil(node.outputs.length / most)));
  const part = (name: string) => `${node.outputs[0]!}/${name}`;
  // Sizes are int64 vectors, which stay on the CPU: there, any number of results is fine.
  const counts = int64(groups.map(({ length }) => length));
  const ownSizes = groups.map((_, i) => part(`sizes${i}`));
  const sums = groups.map((_, i) => part(`sum${i}`));
  const outer = groups.map((_, i) => part(`part${i}`));
  const axis: OnnxNode["attributes"] = [["axis", 0]];
  const joined: OnnxNode = { ...node, inputs: [data!, part("sums")], outputs: outer };
  return [
    { ...step("Split", [sizes!, counts.name], "", axis), outputs: ownSizes, constants: [counts] },
    ...ownSizes.map((own, i) => reduceAxis("ReduceSum", own, 0, sums[i]!)),
    step("Concat", sums, part("sums"), axis),
    ...(outer.length > most ? splitTree(joined, most) : [joined]),
    ...groups.map((outputs, i) => ({ ...node, inputs: [outer[i]!, ownSizes[i]!], outputs, constants: [] })),
  ];
}

function inGroups<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}
