import { GraphBuilder } from "../../src/engine/graph/builder";
import type { Dim, ElementType, OpName, Value } from "../../src/engine/graph/graph";
import { unitLowerInverse } from "../../src/engine/graph/unitLowerInverse";
import { createRandom, type Random } from "../../src/engine/tensor/random";
import { ndArray, sizeOf, type NdArray } from "./ndArray";

/** A small random graph around one op, with the values of its inputs. */
export interface OpCase {
  builder: GraphBuilder;
  outputs: Value[];
  /** Inputs that the op is differentiable in. */
  wrt: Value[];
  feeds: Map<string, NdArray>;
}

/** The case of an op for a seed; every random shape and number follows from it. */
export function opCase(op: OpName, seed: number, floatType: "float32" | "float64"): OpCase {
  const draw = new Draw(new GraphBuilder(floatType), createRandom(seed, opNames.indexOf(op)));
  const outputs = [opRows[op].graph(draw)].flat();
  return { builder: draw.builder, outputs, wrt: draw.wrt, feeds: draw.feeds };
}

/** Draws sizes and inputs. Numbers keep apart from each other and from 0, so that no finite difference crosses a kink. */
class Draw {
  readonly wrt: Value[] = [];
  readonly feeds = new Map<string, NdArray>();

  constructor(
    readonly builder: GraphBuilder,
    readonly random: Random,
  ) {}

  integer(low: number, high: number): number {
    return low + this.random.below(high - low + 1);
  }

  chance(probability: number): boolean {
    return this.random.uniform() < probability;
  }

  size(): number {
    return this.integer(1, 4);
  }

  /** Rows that reach a layer: sometimes none, as for an expert without tokens. */
  rows(): number {
    return this.chance(0.2) ? 0 : this.integer(1, 5);
  }

  shape(rank: number): number[] {
    return Array.from({ length: rank }, () => this.size());
  }

  /** A differentiable input; each axis is a named dim or a fixed one by chance unless `fixed`. */
  float(shape: readonly number[], options: { positive?: boolean; fixed?: boolean } = {}): Value {
    const order = this.#permutation(sizeOf(shape));
    const values = Array.from(order, (place) => {
      const magnitude = 0.3 + (place + 0.5 * this.random.uniform()) * (2 / Math.max(4, order.length));
      return options.positive || this.chance(0.5) ? magnitude : -magnitude;
    });
    const value = this.#declare(shape, values, this.builder.floatType, options.fixed ?? false);
    this.wrt.push(value);
    return value;
  }

  indices(shape: readonly number[], below: number, type: ElementType = "int32"): Value {
    const values = Array.from({ length: sizeOf(shape) }, () => this.random.below(below));
    return this.#declare(shape, values, type, false);
  }

  numbers(shape: readonly number[], values: readonly number[], type: ElementType): Value {
    return this.#declare(shape, values, type, true);
  }

  integers(shape: readonly number[], below: number): number[] {
    return Array.from({ length: sizeOf(shape) }, () => this.random.below(below));
  }

  condition(shape: readonly number[]): Value {
    const values = Array.from({ length: sizeOf(shape) }, () => (this.chance(0.5) ? 1 : 0));
    return this.#declare(shape, values, "bool", false);
  }

  /** Two shapes that broadcast: equal ones, leading axes left out, axes of size 1 on either side, or a scalar. */
  broadcastPair(zeroRows = true): [number[], number[]] {
    const full = this.shape(this.integer(1, 4));
    if (zeroRows && this.chance(0.15)) full[0] = 0;
    const reduced = () => {
      const stretched = full.map((size) => (this.chance(0.3) ? 1 : size));
      return stretched.slice(this.chance(0.4) ? this.integer(0, full.length) : 0);
    };
    const pairs = [
      [full, full],
      [full, reduced()],
      [reduced(), full],
      [full, []],
    ] as const;
    const [a, b] = pairs[this.random.below(pairs.length)]!;
    return [[...a], [...b]];
  }

  /** A random order of `count` rows and its inverse, both as inputs. */
  order(count: number): { order: Value; inverse: Value } {
    const order = this.#permutation(count);
    const inverse = order.map((_, row) => order.indexOf(row));
    const [first, second] = [order, inverse].map((values) => {
      const value = this.builder.input(`x${this.feeds.size}`, ["R"], "int32");
      this.feeds.set(value.name, ndArray([count], values));
      return value;
    });
    return { order: first!, inverse: second! };
  }

  /** An input whose first axis is a named dim. */
  floatRows(rows: number, width: number, dim: Dim): Value {
    const value = this.builder.input(`x${this.feeds.size}`, [dim, width]);
    this.feeds.set(
      value.name,
      ndArray(
        [rows, width],
        Array.from({ length: rows * width }, () => this.random.normal()),
      ),
    );
    this.wrt.push(value);
    return value;
  }

  #declare(shape: readonly number[], values: readonly number[], type: ElementType, fixed: boolean): Value {
    const dims = shape.map((size): Dim => (fixed || size === 1 || this.chance(0.5) ? size : `n${size}`));
    // Fixed and named dims of one size must agree between inputs, or broadcasting could not tell that they fit.
    const agreed = dims.map((dim, axis): Dim => this.#spelling(shape[axis]!, dim));
    const value = this.builder.input(`x${this.feeds.size}`, fixed ? shape : agreed, type);
    this.feeds.set(value.name, ndArray(shape, values));
    return value;
  }

  #spelling(size: number, dim: Dim): Dim {
    if (size === 1) return 1;
    if (!this.#spellings.has(size)) this.#spellings.set(size, size === 0 ? "n0" : dim);
    return this.#spellings.get(size)!;
  }
  readonly #spellings = new Map<number, Dim>();

  #permutation(count: number): number[] {
    const order = Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.random.below(i + 1);
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
    return order;
  }
}

interface OpRow {
  differentiable: boolean;
  straightThrough?: true;
  graph: (draw: Draw) => Value | Value[];
}

const smooth = (graph: OpRow["graph"]): OpRow => ({ differentiable: true, graph });
/** Differentiable by a rule that is none of calculus. */
const straightThrough = (graph: OpRow["graph"]): OpRow => ({ differentiable: true, straightThrough: true, graph });
const discrete = (graph: OpRow["graph"]): OpRow => ({ differentiable: false, graph });
const unary = (apply: (draw: Draw, x: Value) => Value, positive = false) =>
  smooth((draw) => {
    const shape = draw.shape(draw.integer(0, 4));
    if (shape.length > 0 && draw.chance(0.15)) shape[0] = 0;
    return apply(draw, draw.float(shape, { positive }));
  });
const binary = (apply: (draw: Draw, a: Value, b: Value) => Value) =>
  smooth((draw) => {
    const [a, b] = draw.broadcastPair();
    return apply(draw, draw.float(a), draw.float(b));
  });
const comparison = (apply: (draw: Draw, a: Value, b: Value) => Value) => ({
  ...binary((draw, a, b) => draw.builder.cast(apply(draw, a, b), draw.builder.floatType)),
  differentiable: false,
});
const reduction = (op: "reduceSum" | "reduceMean" | "reduceMax", fixed: boolean) =>
  smooth((draw) => {
    const shape = draw.shape(draw.integer(1, 4));
    const axes = shape.map((_, axis) => axis).filter((axis) => axis === shape.length - 1 || draw.chance(0.3));
    if (!axes.includes(0) && draw.chance(0.2)) shape[0] = 0;
    return draw.builder[op](draw.float(shape, { fixed }), axes, draw.chance(0.5));
  });

/** One row for every op: a new op without a row does not compile. */
export const opRows: { [O in OpName]: OpRow } = {
  Add: binary(({ builder }, a, b) => builder.add(a, b)),
  Sub: binary(({ builder }, a, b) => builder.sub(a, b)),
  Mul: binary(({ builder }, a, b) => builder.mul(a, b)),
  Div: binary(({ builder }, a, b) => builder.div(a, b)),
  Neg: unary(({ builder }, x) => builder.neg(x)),
  Sqrt: unary(({ builder }, x) => builder.sqrt(x), true),
  Exp: unary(({ builder }, x) => builder.exp(x)),
  Log: unary(({ builder }, x) => builder.log(x), true),
  Abs: unary(({ builder }, x) => builder.abs(x)),
  Sigmoid: unary(({ builder }, x) => builder.sigmoid(x)),
  Silu: unary(({ builder }, x) => builder.silu(x)),
  Tanh: unary(({ builder }, x) => builder.tanh(x)),
  Erf: unary(({ builder }, x) => builder.erf(x)),
  Clip: unary(({ builder }, x) => builder.clip(x, -0.8111, 1.2111)),
  Where: smooth((draw) => {
    const [a, b] = draw.broadcastPair();
    const condition = draw.condition(draw.chance(0.5) ? a : b);
    return draw.builder.where(condition, draw.float(a), draw.float(b));
  }),
  Less: comparison(({ builder }, a, b) => builder.less(a, b)),
  LessOrEqual: comparison(({ builder }, a, b) => builder.lessOrEqual(a, b)),
  And: comparison(({ builder }, a, b) => builder.and(builder.less(a, b), builder.less(b, builder.constant([1])))),
  Cast: smooth((draw) => {
    const x = draw.float(draw.shape(2));
    const other = draw.builder.floatType === "float64" ? "float32" : "float64";
    return draw.builder.cast(draw.builder.mul(draw.builder.cast(x, other), draw.builder.cast(x, other)), x.type);
  }),
  MatMul: smooth((draw) => {
    // No empty axes: onnxruntime's FusedMatMul leaves its result unwritten where it sums over none (1.30); no block has that.
    const [rows, inner, columns] = [draw.size(), draw.size(), draw.size()];
    const batch = draw.shape(draw.integer(0, 2));
    const other = [batch, [], batch.map((size) => (draw.chance(0.5) ? 1 : size))][draw.random.below(3)]!;
    const [a, b] = draw.chance(0.5) ? [batch, other] : [other, batch];
    const [transA, transB] = [draw.chance(0.3), draw.chance(0.3)];
    const left = draw.float([...a, ...(transA ? [inner, rows] : [rows, inner])]);
    const right = draw.float([...b, ...(transB ? [columns, inner] : [inner, columns])]);
    return draw.builder.matMul(left, right, transA, transB);
  }),
  Gemm: smooth((draw) => {
    const [rows, inner, columns] = [draw.rows(), draw.chance(0.1) ? 0 : draw.size(), draw.size()];
    const [transA, transB] = [draw.chance(0.5), draw.chance(0.5)];
    const a = draw.float(transA ? [inner, rows] : [rows, inner]);
    const b = draw.float(transB ? [columns, inner] : [inner, columns]);
    return draw.builder.gemm(a, b, transA, transB);
  }),
  Softmax: smooth((draw) => {
    const shape = draw.shape(draw.integer(1, 3));
    return draw.builder.softmax(draw.float(shape), draw.random.below(shape.length));
  }),
  SoftmaxMatMul: smooth((draw) => {
    const batch = draw.shape(draw.integer(0, 2));
    const keys = draw.size();
    const scores = draw.float([...batch, draw.chance(0.15) ? 0 : draw.size(), keys]);
    return draw.builder.softmaxMatMul(scores, draw.float([...batch, keys, draw.size()]));
  }),
  RmsNorm: smooth((draw) => {
    const shape = draw.shape(draw.integer(1, 4));
    if (shape.length > 1 && draw.chance(0.15)) shape[0] = 0;
    const x = draw.float(shape, { fixed: true });
    return draw.builder.rmsNorm(x, draw.float([shape.at(-1)!], { fixed: true }), draw.chance(0.5) ? 1e-6 : 0.5);
  }),
  RotaryEmbedding: smooth((draw) => {
    const [heads, tokens, half] = [draw.size(), draw.size(), draw.size()];
    const x = draw.float([draw.size(), heads, tokens, 2 * half + 2 * draw.integer(0, 1)], { fixed: true });
    const angles = Array.from({ length: tokens * half }, () => draw.random.normal());
    const [cos, sin] = [Math.cos, Math.sin].map((of) =>
      draw.numbers([tokens, half], angles.map(of), draw.builder.floatType),
    );
    return draw.builder.rotaryEmbedding(x, cos!, sin!, draw.chance(0.5));
  }),
  SoftmaxKl: smooth((draw) => {
    const shape = draw.shape(draw.integer(1, 3));
    if (shape.length > 1 && draw.chance(0.15)) shape[0] = 0;
    const own = draw.float(shape, { fixed: true });
    const target = Array.from({ length: sizeOf(shape) }, () => 2 * draw.random.normal());
    return draw.builder.softmaxKl(draw.numbers(shape, target, draw.builder.floatType), own);
  }),
  LogSoftmax: smooth((draw) => {
    const shape = draw.shape(draw.integer(1, 3));
    return draw.builder.logSoftmax(draw.float(shape), draw.random.below(shape.length));
  }),
  ReduceSum: reduction("reduceSum", false),
  ReduceMean: reduction("reduceMean", true),
  ReduceMax: reduction("reduceMax", false),
  Reshape: smooth((draw) => {
    const [a, b, c] = draw.shape(3) as [number, number, number];
    const x = draw.float([a, b, c], { fixed: true });
    const targets = [[a * b, c], [a, b * c], [c, a, b], [a * b * c], [1, a * b, c, 1]];
    return draw.builder.reshape(x, targets[draw.random.below(targets.length)]!);
  }),
  Unsqueeze: smooth((draw) => {
    const x = draw.float(draw.shape(2));
    return draw.builder.unsqueeze(x, [[0], [1], [2], [0, 1], [2, 3], [0, 3]][draw.random.below(6)]!);
  }),
  Squeeze: smooth((draw) => {
    const axes = [[0], [2], [0, 2], [1, 2]][draw.random.below(4)]!;
    const shape = draw.shape(4).map((size, axis) => (axes.includes(axis) ? 1 : size));
    return draw.builder.squeeze(draw.float(shape), axes);
  }),
  Expand: smooth((draw) => {
    const like = draw.shape(draw.integer(1, 3));
    if (draw.chance(0.2)) like[0] = 0;
    const from = like.map((size) => (draw.chance(0.5) ? 1 : size)).slice(draw.chance(0.3) ? 1 : 0);
    const x = draw.float(from);
    return draw.builder.expandLike(x, draw.indices(like, 5));
  }),
  Transpose: smooth((draw) => {
    const permutation = [
      [0, 1, 2],
      [2, 0, 1],
      [1, 0, 2],
      [2, 1, 0],
      [0, 2, 1],
      [1, 2, 0],
    ][draw.random.below(6)]!;
    return draw.builder.transpose(draw.float(draw.shape(3)), permutation);
  }),
  Concat: smooth((draw) => {
    const shape = draw.shape(3);
    const axis = draw.random.below(3);
    const parts = Array.from({ length: draw.integer(2, 4) }, () =>
      draw.float(
        shape.map((size, i) => (i === axis ? draw.size() : size)),
        { fixed: true },
      ),
    );
    return draw.builder.concat(parts, axis);
  }),
  Split: smooth((draw) => {
    // Both forms: fixed sizes along any axis, and row counts (some zero) that are an input.
    if (draw.chance(0.5)) {
      const axis = draw.random.below(2);
      const sizes = draw.shape(draw.integer(2, 3));
      const shape = draw.shape(2);
      shape[axis] = sizes.reduce((sum, size) => sum + size, 0);
      return usedSome(draw, draw.builder.split(draw.float(shape, { fixed: true }), sizes, axis));
    }
    const counts = Array.from({ length: 4 }, () => draw.rows());
    const rows = counts.reduce((sum, count) => sum + count, 0);
    const sizes = draw.numbers([4], counts, "int64");
    const names = counts.map((_, i) => `part${i}`);
    return usedSome(draw, draw.builder.splitRows(draw.floatRows(rows, draw.size(), "R"), sizes, names));
  }),
  Slice: smooth((draw) => {
    const shape = draw.shape(3);
    const axis = draw.random.below(3);
    const size = draw.integer(2, 9);
    shape[axis] = size;
    const start = draw.random.below(size - 1);
    const x = draw.float(shape, { fixed: true });
    return draw.builder.slice(x, axis, start, draw.integer(start + 1, size), draw.integer(1, 3));
  }),
  Pad: smooth((draw) => {
    const axis = draw.random.below(3);
    return draw.builder.pad(draw.float(draw.shape(3), { fixed: true }), axis, draw.integer(0, 2), draw.integer(0, 2));
  }),
  Gather: smooth((draw) => {
    const shape = draw.shape(3);
    const axis = draw.random.below(3);
    // More picks than rows: repeated indices, whose gradients add up.
    const count = draw.chance(0.15) ? 0 : draw.integer(1, 7);
    const type = draw.chance(0.5) ? "int32" : "int64";
    return draw.builder.gather(draw.float(shape), draw.indices([count], shape[axis]!, type), axis);
  }),
  GatherElements: smooth((draw) => {
    const shape = draw.shape(2);
    const axis = draw.random.below(2);
    const picked = shape.map((size, i) => (i === axis ? draw.integer(1, 5) : size));
    return draw.builder.gatherElements(draw.float(shape), draw.indices(picked, shape[axis]!), axis);
  }),
  ScatterAdd: smooth((draw) => {
    const shape = draw.shape(2);
    const axis = draw.random.below(2);
    const given = shape.map((size, i) => (i === axis ? draw.integer(1, 5) : size));
    const like = draw.indices(shape, 3);
    return draw.builder.scatterAdd(like, draw.indices(given, shape[axis]!), draw.float(given), axis);
  }),
  PermuteRows: smooth((draw) => {
    const rows = draw.integer(1, 9);
    const { order, inverse } = draw.order(rows);
    return draw.builder.permuteRows(draw.floatRows(rows, draw.size(), "R"), order, inverse);
  }),
  BitShift: discrete((draw) => {
    const codes = draw.indices(draw.shape(2), 256, "uint8");
    return draw.builder.cast(draw.builder.shiftRight(codes, draw.builder.uint8Constant([4], [])), "int32");
  }),
  BitwiseAnd: discrete((draw) => {
    const codes = draw.indices(draw.shape(2), 256, "uint8");
    return draw.builder.cast(draw.builder.bitwiseAnd(codes, draw.builder.uint8Constant([15], [])), "int32");
  }),
  BitwiseOr: discrete((draw) => {
    const codes = draw.indices(draw.shape(2), 256, "uint8");
    const shifted = draw.builder.shiftLeft(codes, draw.builder.uint8Constant([2], []));
    return draw.builder.cast(draw.builder.bitwiseOr(shifted, draw.builder.uint8Constant([3], [])), "int32");
  }),
  DequantizeLinear: smooth((draw) => {
    const { builder } = draw;
    const axis = draw.random.below(2);
    // The last block of an axis may be cut; 0: one scale for each place on it.
    const block = draw.random.below(3) * 3;
    const shape = [draw.integer(1, 7), draw.integer(1, 7)];
    const codes = draw.numbers(shape, draw.integers(shape, 256), "uint8");
    const places = block === 0 ? [shape[axis]!] : shape.map((size, i) => (i === axis ? Math.ceil(size / block) : size));
    const zeros = draw.chance(0.5) ? draw.numbers(places, draw.integers(places, 256), "uint8") : null;
    return builder.dequantizeLinear(codes, draw.float(places, { fixed: true }), zeros, axis, block);
  }),
  MatMulNBits: smooth((draw) => {
    const { builder } = draw;
    const bits = ([2, 4, 8] as const)[draw.random.below(3)]!;
    const [rows, outputs, blocks, block] = [draw.integer(0, 2), draw.integer(1, 2), 1, 16];
    const perByte = 8 / bits;
    const shape = [outputs, blocks, block / perByte];
    const codes = draw.numbers(shape, draw.integers(shape, 256), "uint8");
    const x = draw.floatRows(rows, blocks * block, "R");
    const places = [outputs, blocks];
    const scales = draw.numbers(places, draw.integers(places, 9), builder.floatType);
    const table = Array.from(
      { length: 256 * perByte },
      (_, i) => (Math.floor(i / perByte) >> ((i % perByte) * bits)) & (2 ** bits - 1),
    );
    const decoded = () => {
      const picked = builder.gather(builder.uint8Constant(table, [256, perByte]), builder.cast(codes, "int32"));
      const unpacked = builder.reshape(picked, [outputs, blocks * block]);
      return builder.dequantizeLinear(unpacked, scales, builder.filled("uint8", 2 ** (bits - 1), places), 1, block);
    };
    return builder.matMulNBits(x, codes, scales, { bits, block, decoded });
  }),
  Softplus: unary(({ builder }, x) => builder.append("Softplus", [x], {}, x.type, x.shape)),
  RoundTokens: straightThrough((draw) => {
    const x = draw.floatRows(draw.rows(), draw.integer(1, 9), "R");
    return draw.builder.roundTokens(x, draw.chance(0.5) ? "int8" : "fp8");
  }),
  UnitLowerInverse: smooth((draw) => {
    const n = draw.integer(2, 5);
    return unitLowerInverse(draw.builder, draw.float([...draw.shape(draw.integer(0, 2)), n, n], { fixed: true }));
  }),
  QuantiseRows: discrete((draw) => {
    const { codes, scales } = draw.builder.quantiseRows(draw.float(draw.shape(2), { fixed: true }));
    return [draw.builder.cast(codes, "int32"), scales];
  }),
  Int8MatMul: discrete((draw) => {
    const [inputs, outputs] = [draw.integer(1, 9), draw.integer(1, 9)];
    const codes = draw.numbers(
      [inputs, outputs],
      draw.integers([inputs, outputs], 255).map((code) => code - 127),
      "int8",
    );
    const scales = draw.float([outputs], { positive: true, fixed: true });
    return draw.builder.int8MatMul(draw.floatRows(draw.integer(1, 5), inputs, "R"), { codes, scales });
  }),
};

export const opNames = Object.keys(opRows) as OpName[];

/** All outputs, or only some of them: the others then have no gradient of their own. */
function usedSome(draw: Draw, outputs: Value[]): Value[] {
  const kept = outputs.filter(() => draw.chance(0.7));
  return kept.length > 0 ? kept : outputs.slice(0, 1);
}
