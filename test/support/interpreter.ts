import type { Graph, Node, OpName } from "../../src/engine/graph/graph";
import { at, atBroadcast, broadcast, fromIndices, ndArray, offsetOf, sizeOf, type NdArray } from "./ndArray";

/**
 * Runs a graph in double precision, one plain loop an op: the reference for gradients and for what onnxruntime computes.
 *
 * @param files contents of initialisers that lie in files, by name
 */
export function interpret(
  graph: Graph,
  feeds: ReadonlyMap<string, NdArray>,
  files: ReadonlyMap<string, NdArray> = new Map(),
): Map<string, NdArray> {
  const values = new Map<string, NdArray>(feeds);
  const named = new Map<string, number>();
  for (const initialiser of graph.initialisers) {
    const { name, shape } = initialiser.value;
    const content =
      initialiser.kind === "file" ? files.get(name)! : ndArray(shape as number[], Array.from(initialiser.data, Number));
    values.set(name, content);
  }
  for (const node of graph.nodes) {
    const inputs = node.inputs.map(({ name }) => {
      const value = values.get(name);
      if (value === undefined) throw new Error(`${node.op} needs ${name}, which has no value`);
      return value;
    });
    const run = operations[node.op] as (node: Node, inputs: NdArray[]) => NdArray | NdArray[];
    const results = [run(node, inputs)].flat();
    node.outputs.forEach(({ name, shape }, i) => {
      checkShape(node, shape, results[i]!.shape, named);
      values.set(name, results[i]!);
    });
  }
  return new Map(graph.outputs.map(({ name, value }) => [name, values.get(value.name)!]));
}

type Operations = { [O in OpName]: (node: Node<O>, inputs: NdArray[]) => NdArray | NdArray[] };

const operations: Operations = {
  Add: elementwise((a, b) => a + b),
  Sub: elementwise((a, b) => a - b),
  Mul: elementwise((a, b) => a * b),
  Div: elementwise((a, b) => a / b),
  Neg: elementwise((a) => -a),
  Sqrt: elementwise(Math.sqrt),
  Exp: elementwise(Math.exp),
  Log: elementwise(Math.log),
  Abs: elementwise(Math.abs),
  Sigmoid: elementwise((a) => 1 / (1 + Math.exp(-a))),
  Silu: elementwise((a) => a / (1 + Math.exp(-a))),
  Tanh: elementwise(Math.tanh),
  Softplus: elementwise((a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)))),
  Erf: elementwise(erf),
  Clip: elementwise((a, low, high) => Math.min(Math.max(a, low), high)),
  Where: elementwise((condition, a, b) => (condition === 0 ? b : a)),
  Less: elementwise((a, b) => (a < b ? 1 : 0)),
  LessOrEqual: elementwise((a, b) => (a <= b ? 1 : 0)),
  And: elementwise((a, b) => a * b),
  BitwiseAnd: elementwise((a, b) => a & b),
  BitwiseOr: elementwise((a, b) => a | b),
  DequantizeLinear: ({ attributes: { axis, block } }, [codes, scales, zeros]) =>
    fromIndices(codes!.shape, (index) => {
      const place = block === 0 ? [index[axis]!] : withSize(index, axis, Math.floor(index[axis]! / block));
      return (at(codes!, index) - (zeros ? at(zeros, place) : 0)) * at(scales!, place);
    }),
  MatMulNBits: ({ attributes: { bits, block } }, [x, codes, scales]) => {
    const perByte = 8 / bits;
    return fromIndices([x!.shape[0]!, codes!.shape[0]!], ([row, n]) =>
      sum(x!.shape[1]!, (k) => {
        const [b, i] = [Math.floor(k / block), k % block];
        const byte = at(codes!, [n!, b, Math.floor(i / perByte)]);
        const code = (byte >> ((i % perByte) * bits)) & (2 ** bits - 1);
        return at(x!, [row!, k]) * (code - 2 ** (bits - 1)) * at(scales!, [n!, b]);
      }),
    );
  },
  BitShift: ({ attributes: { direction } }, inputs) =>
    elementwise((a, b) => (direction === "RIGHT" ? a >>> b : (a << b) & 255))(null, inputs),
  Cast: ({ attributes: { to } }, [x]) => {
    if (to === "bool") return map(x!, (a) => (a === 0 ? 0 : 1));
    return to.startsWith("float") || to === "bfloat16" ? x! : map(x!, Math.trunc);
  },
  MatMul: ({ attributes: { transA, transB } }, [a, b]) =>
    matMul(transA ? swapLast(a!) : a!, transB ? swapLast(b!) : b!),
  SoftmaxMatMul: (_, [scores, value]) => {
    const probabilities = map(logSoftmax(scores!, scores!.shape.length - 1), Math.exp);
    return [matMul(probabilities, value!), probabilities];
  },
  RmsNorm: ({ attributes: { epsilon } }, [x, weight]) => {
    const width = x!.shape.at(-1)!;
    const meanSquare = reduce(
      { axes: [x!.shape.length - 1], keepDims: true },
      map(x!, (a) => (a * a) / width),
      (a, b) => a + b,
      0,
    );
    const inverse = map(meanSquare, (mean) => 1 / Math.sqrt(mean + epsilon));
    const normalised = fromIndices(x!.shape, (i) => at(x!, i) * atBroadcast(inverse, i) * atBroadcast(weight!, i));
    return [normalised, inverse];
  },
  RotaryEmbedding: ({ attributes: { backwards } }, [x, cos, sin]) => {
    const half = cos!.shape[1]!;
    return fromIndices(x!.shape, (index) => {
      const [b, h, s, d] = index as [number, number, number, number];
      if (d >= 2 * half) return at(x!, index);
      const [isSecond, pair] = [d >= half, d % half];
      const other = at(x!, [b, h, s, isSecond ? pair : pair + half]);
      return at(x!, index) * at(cos!, [s, pair]) + other * at(sin!, [s, pair]) * (isSecond === backwards ? -1 : 1);
    });
  },
  SoftmaxKl: (_, [target, own]) => {
    const axis = own!.shape.length - 1;
    const [logTarget, logOwn] = [logSoftmax(target!, axis), logSoftmax(own!, axis)];
    const terms = fromIndices(own!.shape, (i) => Math.exp(at(logTarget, i)) * (at(logTarget, i) - at(logOwn, i)));
    return [reduce({ axes: [axis], keepDims: true }, terms, (a, b) => a + b, 0), map(logTarget, Math.exp), logOwn];
  },
  RoundTokens: ({ attributes: { to } }, [x, largest]) => {
    const largestOf = (row: number[]) => row.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const width = x!.shape.at(-1)!;
    return fromIndices(x!.shape, (index) => {
      const row = Array.from({ length: width }, (_, i) => at(x!, [...index.slice(0, -1), i]));
      // In single precision, in which servers divide.
      const scale = Math.fround(largestOf(row) / largest!.data[0]!);
      if (scale === 0) return 0;
      const value = Math.fround(at(x!, index) / scale);
      return scale * (to === "int8" ? Math.min(127, Math.max(-128, halfToEven(value))) : nearestFloat8(value));
    });
  },
  QuantiseRows: (_, [w, largest]) => {
    const [n, k] = w!.shape as [number, number];
    const scales = fromIndices([n], ([row]) =>
      // In single precision, as graphs divide.
      Math.fround(Math.max(...Array.from({ length: k }, (_, i) => Math.abs(at(w!, [row!, i])))) / largest!.data[0]!),
    );
    const code = ([i, row]: number[]) => halfToEven(Math.fround(at(w!, [row!, i!]) / at(scales, [row!])));
    return [fromIndices([k, n], code), scales];
  },
  Int8MatMul: (_, [x, codes, scales]) => {
    const [low, high] = [Math.min(0, ...x!.data), Math.max(0, ...x!.data)];
    const size = Math.fround(Math.fround(high - low) / 255);
    const byte = (value: number) => Math.min(255, Math.max(0, value));
    const zero = byte(halfToEven(Math.fround(-low / size)));
    const rounded = (value: number) => size * (byte(halfToEven(Math.fround(value / size)) + zero) - zero);
    return fromIndices([x!.shape[0]!, codes!.shape[1]!], ([row, n]) =>
      sum(x!.shape[1]!, (k) => rounded(at(x!, [row!, k])) * at(codes!, [k, n!]) * at(scales!, [n!])),
    );
  },
  UnitLowerInverse: (_, [lower]) => {
    const n = lower!.shape.at(-1)!;
    const result = ndArray(lower!.shape, new Float64Array(lower!.data.length));
    for (let from = 0; from < result.data.length; from += n * n) {
      const at = (row: number, column: number) => from + row * n + column;
      // Forward substitution, column by column of the identity.
      for (let column = 0; column < n; column++) {
        for (let row = column; row < n; row++) {
          const before = sum(
            row - column,
            (i) => lower!.data[at(row, column + i)]! * result.data[at(column + i, column)]!,
          );
          result.data[at(row, column)] = (row === column ? 1 : 0) - before;
        }
      }
    }
    return result;
  },
  Gemm: ({ attributes: { transA, transB } }, [a, b]) => {
    const left = (row: number, i: number) => at(a!, transA ? [i, row] : [row, i]);
    const right = (i: number, column: number) => at(b!, transB ? [column, i] : [i, column]);
    const inner = a!.shape[transA ? 0 : 1]!;
    return fromIndices([a!.shape[transA ? 1 : 0]!, b!.shape[transB ? 0 : 1]!], ([row, column]) =>
      sum(inner, (i) => left(row!, i) * right(i, column!)),
    );
  },
  Softmax: ({ attributes: { axis } }, [x]) => map(logSoftmax(x!, axis), Math.exp),
  LogSoftmax: ({ attributes: { axis } }, [x]) => logSoftmax(x!, axis),
  ReduceSum: (node, [x]) => reduce(node.attributes, x!, (a, b) => a + b, 0),
  ReduceMean: (node, [x]) => {
    const count = sizeOf(node.attributes.axes.map((axis) => x!.shape[axis]!));
    return map(
      reduce(node.attributes, x!, (a, b) => a + b, 0),
      (total) => total / count,
    );
  },
  ReduceMax: (node, [x]) => reduce(node.attributes, x!, Math.max, -Infinity),
  Reshape: (_, [x, target]) => {
    const sizes = Array.from(target!.data, (size, axis) => (size === 0 ? x!.shape[axis]! : size));
    const known = -sizeOf(sizes);
    return ndArray(
      sizes.includes(-1) ? sizes.map((size) => (size === -1 ? x!.data.length / known : size)) : sizes,
      x!.data,
    );
  },
  Unsqueeze: ({ attributes: { axes } }, [x]) => {
    const shape = [...x!.shape];
    for (const axis of axes) shape.splice(axis, 0, 1);
    return ndArray(shape, x!.data);
  },
  Squeeze: ({ attributes: { axes } }, [x]) =>
    ndArray(
      x!.shape.filter((_, axis) => !axes.includes(axis)),
      x!.data,
    ),
  Expand: (_, [x, like]) => fromIndices(like!.shape, (index) => atBroadcast(x!, index)),
  Transpose: ({ attributes: { permutation } }, [x]) =>
    fromIndices(
      permutation.map((axis) => x!.shape[axis]!),
      (index) => {
        const source = index.map(() => 0);
        permutation.forEach((axis, i) => (source[axis] = index[i]!));
        return at(x!, source);
      },
    ),
  Concat: ({ attributes: { axis } }, parts) => {
    const total = sum(parts.length, (i) => parts[i]!.shape[axis]!);
    return fromIndices(withSize(parts[0]!.shape, axis, total), (index) => {
      let position = index[axis]!;
      let part = 0;
      while (position >= parts[part]!.shape[axis]!) position -= parts[part++]!.shape[axis]!;
      return at(parts[part]!, withSize(index, axis, position));
    });
  },
  Split: ({ attributes: { axis } }, [x, sizes]) => split(x!, sizes!, axis),
  Slice: ({ attributes: { axis, start, end, step } }, [x]) =>
    fromIndices(withSize(x!.shape, axis, Math.ceil((end - start) / step)), (index) =>
      at(x!, withSize(index, axis, start + index[axis]! * step)),
    ),
  Pad: ({ attributes: { axis, before, after } }, [x]) =>
    fromIndices(withSize(x!.shape, axis, before + x!.shape[axis]! + after), (index) => {
      const position = index[axis]! - before;
      return position < 0 || position >= x!.shape[axis]! ? 0 : at(x!, withSize(index, axis, position));
    }),
  Gather: ({ attributes: { axis } }, [x, indices]) => gather(x!, indices!, axis),
  GatherElements: ({ attributes: { axis } }, [x, indices]) =>
    fromIndices(indices!.shape, (index) => at(x!, withSize(index, axis, at(indices!, index)))),
  ScatterAdd: ({ attributes: { axis } }, [like, indices, updates]) => {
    const result = ndArray(like!.shape, new Float64Array(like!.data.length));
    fromIndices(indices!.shape, (index) => {
      result.data[offsetOf(result.shape, withSize(index, axis, at(indices!, index)))]! += at(updates!, index);
      return 0;
    });
    return result;
  },
  PermuteRows: (_, [x, order]) => gather(x!, order!, 0),
};

/** Fixed dims must be what inference said; a named dim may be any size, the same one everywhere. */
function checkShape(
  node: Node,
  inferred: readonly (number | string)[],
  actual: readonly number[],
  named: Map<string, number>,
): void {
  const fits = (dim: number | string, size: number) => {
    if (typeof dim === "number") return dim === size;
    if (!named.has(dim)) named.set(dim, size);
    return named.get(dim) === size;
  };
  if (inferred.length === actual.length && inferred.every((dim, i) => fits(dim, actual[i]!))) return;
  throw new Error(`${node.op} gave [${actual.join(", ")}], the builder inferred [${inferred.join(", ")}]`);
}

function elementwise(f: (...elements: number[]) => number) {
  return (_: unknown, inputs: NdArray[]): NdArray =>
    fromIndices(broadcast(...inputs.map(({ shape }) => shape)), (index) =>
      f(...inputs.map((input) => atBroadcast(input, index))),
    );
}

function map({ shape, data }: NdArray, f: (element: number) => number): NdArray {
  return { shape, data: data.map((element) => f(element)) };
}

function sum(count: number, term: (i: number) => number): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += term(i);
  return total;
}

function withSize(shape: readonly number[], axis: number, size: number): number[] {
  return shape.map((old, i) => (i === axis ? size : old));
}

function reduce(
  { axes, keepDims }: { axes: readonly number[]; keepDims: boolean },
  x: NdArray,
  f: (a: number, b: number) => number,
  start: number,
): NdArray {
  const kept = x.shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
  const result = { shape: kept, data: new Float64Array(sizeOf(kept)).fill(start) };
  fromIndices(x.shape, (index) => {
    const target = offsetOf(
      kept,
      index.map((i, axis) => (axes.includes(axis) ? 0 : i)),
    );
    result.data[target] = f(result.data[target]!, at(x, index));
    return 0;
  });
  return keepDims ? result : { ...result, shape: x.shape.filter((_, axis) => !axes.includes(axis)) };
}

function swapLast(x: NdArray): NdArray {
  const swapped = (of: readonly number[]) => [...of.slice(0, -2), ...of.slice(-2).reverse()];
  return fromIndices(swapped(x.shape), (index) => at(x, swapped(index)));
}

function matMul(a: NdArray, b: NdArray): NdArray {
  const batch = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const inner = a.shape.at(-1)!;
  return fromIndices([...batch, a.shape.at(-2)!, b.shape.at(-1)!], (index) => {
    const [row, column] = index.slice(-2) as [number, number];
    const before = index.slice(0, -2);
    return sum(inner, (i) => atBroadcast(a, [...before, row, i]) * atBroadcast(b, [...before, i, column]));
  });
}

function logSoftmax(x: NdArray, axis: number): NdArray {
  const over = { axes: [axis], keepDims: true };
  const largest = reduce(over, x, Math.max, -Infinity);
  const shifted = fromIndices(x.shape, (index) => at(x, index) - atBroadcast(largest, index));
  const total = reduce(over, map(shifted, Math.exp), (a, b) => a + b, 0);
  return fromIndices(x.shape, (index) => at(shifted, index) - Math.log(atBroadcast(total, index)));
}

function gather(x: NdArray, indices: NdArray, axis: number): NdArray {
  const rank = indices.shape.length;
  return fromIndices([...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)], (index) =>
    at(x, [...index.slice(0, axis), at(indices, index.slice(axis, axis + rank)), ...index.slice(axis + rank)]),
  );
}

function split(x: NdArray, sizes: NdArray, axis: number): NdArray[] {
  let from = 0;
  return Array.from(sizes.data, (size) => {
    const start = from;
    from += size;
    return fromIndices(withSize(x.shape, axis, size), (index) => at(x, withSize(index, axis, start + index[axis]!)));
  });
}

/** Error function to double precision: its Maclaurin series, and a continued fraction of erfc beyond 3. */
export function erf(x: number): number {
  const magnitude = Math.abs(x);
  if (magnitude > 3) {
    let fraction = 0;
    for (let n = 60; n > 0; n--) fraction = n / 2 / (magnitude + fraction);
    const complement = Math.exp(-x * x) / (Math.sqrt(Math.PI) * (magnitude + fraction));
    return Math.sign(x) * (1 - complement);
  }
  let term = x;
  let total = x;
  for (let n = 1; n < 100; n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

export function halfToEven(value: number): number {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}

/** The nearest E4M3 number, of two equally near ones that of the even code; 448 beyond. */
function nearestFloat8(value: number): number {
  const size = Math.min(448, Math.abs(value));
  const exponent = size === 0 ? -6 : Math.max(-6, Math.floor(Math.log2(size)));
  const step = 2 ** (exponent - 3);
  return Math.sign(value) * Math.min(448, halfToEven(size / step) * step);
}
