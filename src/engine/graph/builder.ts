import type { ActivationType } from "../../protocol/calibrateOptions";
import { Initialisers } from "./initialisers";
import { broadcastShapes, normaliseAxis, sameDim, shapeError, sumOfDims, swapped } from "./shape";
import type { Dim, ElementType, FileRange, Graph, Node, OpAttributes, OpName, Shape, Value } from "./graph";

/**
 * Builds a graph node by node, inferring types and shapes. Every method named after an ONNX op adds one node; a wrong
 * shape is a defect of the caller and throws an Error that names the op and both shapes.
 */
export class GraphBuilder {
  readonly nodes: Node[] = [];
  readonly #inputs: Value[] = [];
  readonly #initialisers = new Initialisers();
  readonly #producers = new Map<Value, Node>();
  #nextId = 0;

  /** @param floatType float32 in production; float64 where a test checks gradients by finite differences */
  constructor(readonly floatType: "float32" | "float64" = "float32") {}

  input(name: string, shape: Shape, type: ElementType = this.floatType): Value {
    const value = { name, type, shape };
    this.#inputs.push(value);
    return value;
  }

  /** A tensor stored in a file; its bytes never pass through this process's heap. */
  fileInitialiser = (name: string, type: ElementType, shape: Shape, range: FileRange) =>
    this.#initialisers.file(name, type, shape, range);

  /** A small constant of the graph's float type. */
  constant = (data: readonly number[], shape: Shape = []) => this.#initialisers.small(this.floatType, data, shape);
  int64Constant = (data: readonly number[], shape: Shape = [data.length]) =>
    this.#initialisers.small("int64", data, shape);
  uint8Constant = (data: readonly number[], shape: Shape = [data.length]) =>
    this.#initialisers.small("uint8", data, shape);

  /** A tensor of one number; the same one for the same shape. */
  filled = (type: "uint4" | "uint8", number: number, shape: readonly number[]) =>
    this.#initialisers.filled(type, number, shape);

  add = (a: Value, b: Value) => this.#binary("Add", a, b);
  sub = (a: Value, b: Value) => this.#binary("Sub", a, b);
  mul = (a: Value, b: Value) => this.#binary("Mul", a, b);
  div = (a: Value, b: Value) => this.#binary("Div", a, b);
  neg = (a: Value) => this.#unary("Neg", a);
  sqrt = (a: Value) => this.#unary("Sqrt", a);
  exp = (a: Value) => this.#unary("Exp", a);
  log = (a: Value) => this.#unary("Log", a);
  abs = (a: Value) => this.#unary("Abs", a);
  sigmoid = (a: Value) => this.#unary("Sigmoid", a);
  silu = (a: Value) => this.#unary("Silu", a);
  tanh = (a: Value) => this.#unary("Tanh", a);
  erf = (a: Value) => this.#unary("Erf", a);
  less = (a: Value, b: Value) => this.#binary("Less", a, b, "bool");
  lessOrEqual = (a: Value, b: Value) => this.#binary("LessOrEqual", a, b, "bool");
  and = (a: Value, b: Value) => this.#binary("And", a, b);
  bitwiseAnd = (a: Value, b: Value) => this.#binary("BitwiseAnd", a, b);
  bitwiseOr = (a: Value, b: Value) => this.#binary("BitwiseOr", a, b);
  shiftRight = (a: Value, b: Value) => this.#shift("RIGHT", a, b);
  shiftLeft = (a: Value, b: Value) => this.#shift("LEFT", a, b);

  /** a times a number. */
  scale(a: Value, factor: number): Value {
    return factor === 1 ? a : this.mul(a, this.constant([factor]));
  }

  /** min(max(a, low), high); gradient 0 outside. */
  clip(a: Value, low: number, high: number): Value {
    return this.#node("Clip", [a, this.constant([low]), this.constant([high])], {}, a.type, a.shape);
  }

  where(condition: Value, a: Value, b: Value): Value {
    const shape = broadcastShapes(condition.shape, broadcastShapes(a.shape, b.shape));
    return this.#node("Where", [condition, a, b], {}, a.type, shape);
  }

  cast(a: Value, to: ElementType): Value {
    return a.type === to ? a : this.#node("Cast", [a], { to }, to, a.shape);
  }

  /** Batched product op(A) op(B) over the last two axes; leading axes broadcast. */
  matMul(a: Value, b: Value, transA = false, transB = false): Value {
    const [rows, inner] = transA ? swapped(a) : a.shape.slice(-2);
    const [innerB, columns] = transB ? swapped(b) : b.shape.slice(-2);
    if (rows === undefined || innerB === undefined || !sameDim(inner!, innerB)) throw shapeError("MatMul", a, b);
    const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2));
    return this.#node("MatMul", [a, b], { transA, transB }, a.type, [...batch, rows, columns!]);
  }

  /** softmax(scores) value: scores [..., R, C], value [..., C, D] with the same leading axes. */
  softmaxMatMul(scores: Value, value: Value): Value {
    const shape = [...scores.shape.slice(0, -1), value.shape.at(-1)!];
    return this.#nodes("SoftmaxMatMul", [scores, value], {}, scores.type, [shape, scores.shape])[0]!;
  }

  /** x / sqrt(mean(x^2) + epsilon) * weight over the last axis; weight has that axis only. */
  rmsNorm(x: Value, weight: Value, epsilon: number): Value {
    if (weight.shape.length !== 1 || !sameDim(weight.shape[0]!, x.shape.at(-1)!))
      throw shapeError("RmsNorm", x, weight);
    const inverse = [...x.shape.slice(0, -1), 1];
    return this.#nodes("RmsNorm", [x, weight], { epsilon }, x.type, [x.shape, inverse])[0]!;
  }

  /** Heads x [B, heads, S, D] rotated by cosines and sines [S, n], or back. */
  rotaryEmbedding(x: Value, cos: Value, sin: Value, backwards = false): Value {
    if (x.shape.length !== 4 || cos.shape.length !== 2 || !sameDim(cos.shape[0]!, x.shape[2]!))
      throw shapeError("RotaryEmbedding", x, cos);
    return this.#node("RotaryEmbedding", [x, cos, sin], { backwards }, x.type, x.shape);
  }

  /** KL(softmax(target) || softmax(own)) of each row, [..., 1]. */
  softmaxKl(target: Value, own: Value): Value {
    const row = [...own.shape.slice(0, -1), 1];
    return this.#nodes("SoftmaxKl", [target, own], {}, own.type, [row, own.shape, own.shape])[0]!;
  }

  /** op(A) op(B), both matrices. */
  gemm(a: Value, b: Value, transA = false, transB = false): Value {
    const [rows, inner] = transA ? [a.shape[1], a.shape[0]] : a.shape;
    const [innerB, columns] = transB ? [b.shape[1], b.shape[0]] : b.shape;
    if (a.shape.length !== 2 || b.shape.length !== 2 || !sameDim(inner!, innerB!)) throw shapeError("Gemm", a, b);
    return this.#node("Gemm", [a, b], { transA, transB }, a.type, [rows!, columns!]);
  }

  softmax(a: Value, axis = -1): Value {
    return this.#node("Softmax", [a], { axis: normaliseAxis(axis, a) }, a.type, a.shape);
  }

  logSoftmax(a: Value, axis = -1): Value {
    return this.#node("LogSoftmax", [a], { axis: normaliseAxis(axis, a) }, a.type, a.shape);
  }

  reduceSum = (a: Value, axes: readonly number[], keepDims = false) => this.#reduce("ReduceSum", a, axes, keepDims);
  reduceMean = (a: Value, axes: readonly number[], keepDims = false) => this.#reduce("ReduceMean", a, axes, keepDims);
  reduceMax = (a: Value, axes: readonly number[], keepDims = false) => this.#reduce("ReduceMax", a, axes, keepDims);

  /**
   * The same elements in another shape. A named dim is either the input's dim of the same position, or the only one of
   * the new shape that is not (it is then inferred).
   */
  reshape(a: Value, shape: Shape): Value {
    if (shape.length === a.shape.length && shape.every((dim, i) => sameDim(dim, a.shape[i]!))) return a;
    const target = shape.map((dim, i) => (typeof dim === "number" ? dim : dim === a.shape[i] ? 0 : -1));
    if (target.filter((dim) => dim === -1).length > 1) {
      throw new Error(`Reshape: cannot infer [${shape.join(", ")}] from [${a.shape.join(", ")}]`);
    }
    return this.#node("Reshape", [a, this.int64Constant(target)], {}, a.type, shape);
  }

  /** Adds axes of size 1; `axes` are positions in the result, ascending. */
  unsqueeze(a: Value, axes: readonly number[]): Value {
    if (axes.length === 0) return a;
    const shape = [...a.shape];
    for (const axis of axes) shape.splice(axis, 0, 1);
    return this.#node("Unsqueeze", [a], { axes }, a.type, shape);
  }

  /** Takes away axes of size 1. */
  squeeze(a: Value, axes: readonly number[]): Value {
    if (axes.length === 0) return a;
    const shape = a.shape.filter((_, i) => !axes.includes(i));
    return this.#node("Squeeze", [a], { axes }, a.type, shape);
  }

  /** Broadcasts `a` to the shape of `like`. */
  expandLike(a: Value, like: Value): Value {
    return this.#node("Expand", [a, like], {}, a.type, like.shape);
  }

  transpose(a: Value, permutation: readonly number[]): Value {
    const shape = permutation.map((axis) => a.shape[axis]!);
    return this.#node("Transpose", [a], { permutation }, a.type, shape);
  }

  /** @param total size of the joined axis, where the parts' sizes are not all fixed */
  concat(parts: readonly Value[], axis: number, total: Dim = sumOfDims(parts, axis)): Value {
    const first = parts[0]!;
    if (parts.length === 1) return first;
    const at = normaliseAxis(axis, first);
    const shape = first.shape.map((dim, i) => (i === at ? total : dim));
    return this.#node("Concat", parts, { axis: at }, first.type, shape);
  }

  /** Parts of fixed sizes along an axis. */
  split(a: Value, sizes: readonly number[], axis: number): Value[] {
    const at = normaliseAxis(axis, a);
    const shapes = sizes.map((size) => a.shape.map((dim, i) => (i === at ? size : dim)));
    return this.#nodes("Split", [a, this.int64Constant(sizes)], { axis: at }, a.type, shapes);
  }

  /** Parts along an axis whose sizes are an input; the sizes get the names given. */
  splitRows(a: Value, sizes: Value, sizeNames: readonly string[], axis = 0): Value[] {
    const shapes = sizeNames.map((name) => a.shape.map((dim, i) => (i === axis ? name : dim)));
    return this.#nodes("Split", [a, sizes], { axis }, a.type, shapes);
  }

  /** Elements start, start + step, ... below `end` of one axis of fixed size. */
  slice(a: Value, axis: number, start: number, end: number, step = 1): Value {
    const at = normaliseAxis(axis, a);
    const size = Math.ceil((end - start) / step);
    const shape = a.shape.map((dim, i) => (i === at ? size : dim));
    return this.#node("Slice", [a], { axis: at, start, end, step }, a.type, shape);
  }

  /** Zeros before and after the elements of one axis of fixed size. */
  pad(a: Value, axis: number, before: number, after: number): Value {
    const at = normaliseAxis(axis, a);
    const size = (a.shape[at] as number) + before + after;
    const shape = a.shape.map((dim, i) => (i === at ? size : dim));
    return this.#node("Pad", [a], { axis: at, before, after }, a.type, shape);
  }

  gather(data: Value, indices: Value, axis = 0): Value {
    const shape = [...data.shape.slice(0, axis), ...indices.shape, ...data.shape.slice(axis + 1)];
    return this.#node("Gather", [data, indices], { axis }, data.type, shape);
  }

  gatherElements(data: Value, indices: Value, axis: number): Value {
    return this.#node("GatherElements", [data, indices], { axis: normaliseAxis(axis, data) }, data.type, indices.shape);
  }

  /** zeros like `like` with `updates` added at `indices` along `axis` (the transpose of gatherElements). */
  scatterAdd(like: Value, indices: Value, updates: Value, axis: number): Value {
    const at = normaliseAxis(axis, like);
    return this.#node("ScatterAdd", [like, indices, updates], { axis: at }, updates.type, like.shape);
  }

  permuteRows(data: Value, order: Value, inverse: Value): Value {
    return this.#node("PermuteRows", [data, order, inverse], {}, data.type, [order.shape[0]!, ...data.shape.slice(1)]);
  }

  /** (codes - zeros) * scales; see graph.ts for the shapes. */
  dequantizeLinear(codes: Value, scales: Value, zeros: Value | null, axis: number, block: number): Value {
    const size = codes.shape[axis] as number;
    const expected = block === 0 ? [size] : codes.shape.map((dim, i) => (i === axis ? Math.ceil(size / block) : dim));
    const fits = ({ shape }: Value) =>
      shape.length === expected.length && shape.every((dim, i) => sameDim(dim, expected[i]!));
    if (!fits(scales) || (zeros !== null && !fits(zeros))) throw shapeError("DequantizeLinear", codes, scales);
    const inputs = zeros === null ? [codes, scales] : [codes, scales, zeros];
    return this.#node("DequantizeLinear", inputs, { axis, block }, scales.type, codes.shape);
  }

  /** x with each row rounded as a server quantises activations; see graph.ts. */
  roundTokens(x: Value, to: ActivationType): Value {
    const largest = this.constant([to === "int8" ? 127.5 : 448]);
    return this.#node("RoundTokens", [x, largest, this.constant([2 ** -100])], { to }, x.type, x.shape);
  }

  /** A matrix [N, K] as int8 codes [K, N] and scales [N]; see graph.ts. */
  quantiseRows(w: Value): { codes: Value; scales: Value } {
    const [n, k] = w.shape;
    const inputs = [w, this.constant([127]), this.constant([2 ** -100])];
    const shapes = [[k!, n!], [n!]];
    const [codes, scales] = this.#nodes("QuantiseRows", inputs, {}, ["int8", w.type], shapes);
    return { codes: codes!, scales: scales! };
  }

  /** x W^T for a matrix of quantiseRows. */
  int8MatMul(x: Value, { codes, scales }: { codes: Value; scales: Value }): Value {
    const [k, n] = codes.shape;
    if (!sameDim(x.shape[1]!, k!)) throw shapeError("Int8MatMul", x, codes);
    return this.#node("Int8MatMul", [x, codes, scales], {}, x.type, [x.shape[0]!, n!]);
  }

  /** x W^T for W [N, K] stored as integers; see graph.ts for the shapes. */
  matMulNBits(x: Value, codes: Value, scales: Value, of: OpAttributes["MatMulNBits"]): Value {
    const [outputs, blocks] = codes.shape;
    if (!sameDim(x.shape[1]!, Number(blocks) * of.block)) throw shapeError("MatMulNBits", x, codes);
    return this.#node("MatMulNBits", [x, codes, scales], of, x.type, [x.shape[0]!, outputs!]);
  }

  /** Adds a node of any op with its result's type and shape given: what gradient rules use. */
  append<O extends OpName>(
    op: O,
    inputs: readonly Value[],
    attributes: OpAttributes[O],
    type: ElementType,
    shape: Shape,
  ) {
    return this.#node(op, inputs, attributes, type, shape);
  }

  producer(value: Value): Node | undefined {
    return this.#producers.get(value);
  }

  /** The graph that computes the named outputs, without the nodes and inputs that none of them needs. */
  build(outputs: Record<string, Value>): Graph {
    const needed = new Set<Value>(Object.values(outputs));
    const nodes: Node[] = [];
    for (const node of [...this.nodes].reverse()) {
      if (!node.outputs.some((value) => needed.has(value))) continue;
      nodes.push(node);
      for (const value of node.inputs) needed.add(value);
    }
    return {
      inputs: this.#inputs.filter((value) => needed.has(value)),
      initialisers: [...this.#initialisers.all].filter(({ value }) => needed.has(value)),
      nodes: nodes.reverse(),
      outputs: Object.entries(outputs).map(([name, value]) => ({ name, value })),
    };
  }

  #shift(direction: "LEFT" | "RIGHT", a: Value, b: Value): Value {
    return this.#node("BitShift", [a, b], { direction }, a.type, broadcastShapes(a.shape, b.shape));
  }

  #unary(op: OpName, a: Value): Value {
    return this.#node(op, [a], {}, a.type, a.shape);
  }

  #binary(op: OpName, a: Value, b: Value, type: ElementType = a.type): Value {
    return this.#node(op, [a, b], {}, type, broadcastShapes(a.shape, b.shape));
  }

  #reduce(op: "ReduceSum" | "ReduceMean" | "ReduceMax", a: Value, axes: readonly number[], keepDims: boolean): Value {
    const at = axes.map((axis) => normaliseAxis(axis, a)).sort((x, y) => x - y);
    if (at.length === 0) return a;
    const shape = a.shape.flatMap((dim, i) => (at.includes(i) ? (keepDims ? [1] : []) : [dim]));
    return this.#node(op, [a], { axes: at, keepDims }, a.type, shape);
  }

  #node<O extends OpName>(
    op: O,
    inputs: readonly Value[],
    attributes: OpAttributes[O],
    type: ElementType,
    shape: Shape,
  ) {
    return this.#nodes(op, inputs, attributes, type, [shape])[0]!;
  }

  #nodes<O extends OpName>(
    op: O,
    inputs: readonly Value[],
    attributes: OpAttributes[O],
    type: ElementType | readonly ElementType[],
    shapes: readonly Shape[],
  ): Value[] {
    const typeOf = (i: number) => (typeof type === "string" ? type : type[i]!);
    const outputs = shapes.map((shape, i) => ({ name: `${op}_${this.#nextId++}`, type: typeOf(i), shape }));
    const node: Node<O> = { op, inputs, outputs, attributes };
    this.nodes.push(node);
    for (const output of outputs) this.#producers.set(output, node);
    return outputs;
  }
}
