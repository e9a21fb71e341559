import type { ActivationType } from "../../protocol/calibrateOptions";

/**
 * The graph representation that blocks are written in, gradients are taken of, and ONNX is encoded from. It is ONNX's
 * own vocabulary (op names, attribute meanings) with static element types and shapes, plus a few ops whose gradient has
 * a closed form (`RmsNorm`, `SoftmaxKl`, `PermuteRows`, ...), which the encoder lowers to ONNX nodes.
 */

export type ElementType =
  | "float32"
  | "float64"
  | "float16"
  | "bfloat16"
  | "float8e4m3fn"
  | "int64"
  | "int32"
  | "int8"
  | "uint8"
  /** Two in a byte, the low nibble first. */
  | "uint4"
  | "bool";

/** A fixed size, or the name of a size that is known when the graph runs. Equal names are equal sizes. */
export type Dim = number | string;
export type Shape = readonly Dim[];

/** The result of a node, an input, or an initialiser. */
export interface Value {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: Shape;
}

/** Attributes of each op, as ONNX (opset 21) defines them. */
export interface OpAttributes {
  Add: NoAttributes;
  Sub: NoAttributes;
  Mul: NoAttributes;
  Div: NoAttributes;
  Neg: NoAttributes;
  Sqrt: NoAttributes;
  Exp: NoAttributes;
  Log: NoAttributes;
  Abs: NoAttributes;
  Sigmoid: NoAttributes;
  /** x sigmoid(x) */
  Silu: NoAttributes;
  Tanh: NoAttributes;
  /** log(1 + e^x) */
  Softplus: NoAttributes;
  Erf: NoAttributes;
  Clip: NoAttributes;
  Where: NoAttributes;
  Less: NoAttributes;
  LessOrEqual: NoAttributes;
  And: NoAttributes;
  Cast: { to: ElementType };
  /** Of the last two axes; transposed first where the attributes say so. */
  MatMul: { transA: boolean; transB: boolean };
  Gemm: { transA: boolean; transB: boolean };
  Softmax: { axis: number };
  LogSoftmax: { axis: number };
  /** softmax(scores) V over the last axis: attention's core. Outputs: the product, and the probabilities for its gradient. */
  SoftmaxMatMul: NoAttributes;
  /**
   * x / sqrt(mean(x^2) + epsilon) * w over the last axis. Outputs: the result, and 1 / sqrt(mean(x^2) + epsilon), [..., 1],
   * for its gradient.
   */
  RmsNorm: { epsilon: number };
  /**
   * Heads [B, heads, S, D] rotated by their position (RoPE, arXiv 2104.09864), pairs (i, i + n) of the first 2n numbers of a
   * head; the rest stays. Further inputs: cosines and sines [S, n]. `backwards`: by minus the angle.
   */
  RotaryEmbedding: { backwards: boolean };
  /** KL(softmax(a) || softmax(b)) over the last axis. Outputs: [..., 1], and softmax(a) and log softmax(b) for its gradient. */
  SoftmaxKl: NoAttributes;
  /**
   * (I + L)^-1 for L the strictly lower triangle of the last two axes (the rest is not looked at). Further inputs: the
   * identity, and the masks of unitLowerInverse.ts.
   */
  UnitLowerInverse: NoAttributes;
  ReduceSum: { axes: readonly number[]; keepDims: boolean };
  ReduceMean: { axes: readonly number[]; keepDims: boolean };
  ReduceMax: { axes: readonly number[]; keepDims: boolean };
  Reshape: NoAttributes;
  /** Axes (of the result) of size 1 are added. */
  Unsqueeze: { axes: readonly number[] };
  /** Axes of size 1 are taken away. */
  Squeeze: { axes: readonly number[] };
  Expand: NoAttributes;
  Transpose: { permutation: readonly number[] };
  Concat: { axis: number };
  Split: { axis: number };
  Slice: { axis: number; start: number; end: number; step: number };
  Pad: { axis: number; before: number; after: number };
  /** Rows (or other slices along `axis`) picked by an index tensor. */
  Gather: { axis: number };
  /** Elements along `axis`; the index has the output's shape. */
  GatherElements: { axis: number };
  /** A zero tensor of the first input's shape with `updates` added at `indices` along `axis`. */
  ScatterAdd: { axis: number };
  /** Rows of a matrix in another order; inputs: data, order, inverse order. */
  PermuteRows: NoAttributes;
  BitShift: { direction: "LEFT" | "RIGHT" };
  BitwiseAnd: NoAttributes;
  BitwiseOr: NoAttributes;
  /**
   * Rows as a server that quantises activations reads them, one scale a token over the last axis: `int8`, s = max|x| / 127.5
   * and s clamp(round(x / s)), half to even; `fp8`, s = max|x| / 448 and s times x / s in E4M3. The gradient goes through
   * unchanged. Further inputs: 127.5 or 448, and the least scale.
   */
  RoundTokens: { to: ActivationType };
  /**
   * A matrix [N, K] as signed 8-bit integers, one scale a row: s = max|w| / 127 and round(w / s), half to even. Further inputs:
   * 127, and the least scale. Outputs: codes [K, N], turned as Int8MatMul reads them, and scales [N].
   */
  QuantiseRows: NoAttributes;
  /**
   * x W^T for codes and scales of QuantiseRows. x is rounded to 256 steps from its smallest to its largest number, 0 among
   * them, over all rows together. No gradient: for passes that are only looked at.
   */
  Int8MatMul: NoAttributes;
  /**
   * (codes - zero) * scale; inputs: codes, scales and zeros of the codes' type (left out: 0). One scale for `block` codes
   * along the axis; with block 0 one for each place on the axis, scales [size of the axis].
   */
  DequantizeLinear: { axis: number; block: number };
  /**
   * x W^T for W [N, K] stored as integers: inputs x [rows, K], codes U8 [N, K / block, block * bits / 8], lowest bits first,
   * scales [N, K / block]; W = (code - 2^(bits - 1)) * scale. `decoded` adds W to the graph, for the gradient.
   */
  MatMulNBits: { bits: 2 | 4 | 8; block: number; decoded: () => Value };
}

type NoAttributes = Readonly<Record<string, never>>;
export type OpName = keyof OpAttributes;

export interface Node<O extends OpName = OpName> {
  readonly op: O;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly attributes: OpAttributes[O];
}

/** Bytes of a file that hold an initialiser, exactly as ONNX `external_data` names them. */
export interface FileRange {
  file: string;
  offset: number;
  length: number;
}

export type Initialiser =
  | { kind: "constant"; value: Value; data: Float32Array | Float64Array | BigInt64Array | Uint8Array }
  | { kind: "file"; value: Value; range: FileRange };

export interface Graph {
  readonly inputs: readonly Value[];
  readonly initialisers: readonly Initialiser[];
  readonly nodes: readonly Node[];
  readonly outputs: readonly { name: string; value: Value }[];
}
