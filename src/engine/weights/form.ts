import type { Quantisation, WeightView } from "./view";

/** A value of the graph that a form decodes in. */
export interface DecodedValue {
  readonly shape: readonly (number | string)[];
}

/** Types of stored elements that graphs read. */
export type StoredType = "float32" | "float64" | "float16" | "bfloat16" | "float8e4m3fn" | "int8" | "uint8" | "uint4";

/** What decoding needs of a graph: its builder has them, each as the ONNX operation of this name. */
export interface DecodeGraph<V extends DecodedValue> {
  readonly floatType: "float32" | "float64";
  constant(data: readonly number[], shape?: readonly number[]): V;
  int64Constant(data: readonly number[], shape?: readonly number[]): V;
  uint8Constant(data: readonly number[], shape?: readonly number[]): V;
  /** A tensor of one number; the same one for the same shape. */
  filled(type: "uint4" | "uint8", value: number, shape: readonly number[]): V;
  add(a: V, b: V): V;
  sub(a: V, b: V): V;
  mul(a: V, b: V): V;
  div(a: V, b: V): V;
  sigmoid(a: V): V;
  tanh(a: V): V;
  bitwiseAnd(a: V, b: V): V;
  bitwiseOr(a: V, b: V): V;
  shiftRight(a: V, b: V): V;
  shiftLeft(a: V, b: V): V;
  cast(a: V, to: "float32" | "float64" | "int32" | "uint8"): V;
  softmax(a: V): V;
  matMul(a: V, b: V): V;
  gemm(a: V, b: V, transA?: boolean, transB?: boolean): V;
  gather(data: V, indices: V, axis?: number): V;
  reshape(a: V, shape: readonly (number | string)[]): V;
  unsqueeze(a: V, axes: readonly number[]): V;
  slice(a: V, axis: number, start: number, end: number): V;
  transpose(a: V, permutation: readonly number[]): V;
  concat(parts: readonly V[], axis: number): V;
  dequantizeLinear(codes: V, scales: V, zeros: V | null, axis: number, block: number): V;
  matMulNBits(x: V, codes: V, scales: V, of: { bits: 2 | 4 | 8; block: number; decoded: () => V }): V;
}

/** Where a form decodes: a graph, and the stored bytes that it may read. */
export interface Decoding<V extends DecodedValue> {
  readonly graph: DecodeGraph<V>;
  /**
   * Stored elements as they lie, without scales: of the view's own dtype and shape, or the same bytes seen as another type.
   */
  stored(view: WeightView, as?: { type: StoredType; shape: readonly number[] }): V;
  /** The numbers of another view: scales, factors. */
  float(view: WeightView): V;
}

export type QuantisationOf<K extends Quantisation["kind"]> = Extract<Quantisation, { kind: K }>;

/** One way of storing a matrix. Adding one is a file and a row in forms.ts. */
export interface WeightForm<K extends Quantisation["kind"]> {
  /** What it is called in messages. */
  name: string;
  /** The matrix in the graph's float type. Stored bytes are mapped, never read here. */
  decode: <V extends DecodedValue>(from: Decoding<V>, view: WeightView, stored: QuantisationOf<K>) => V;
  /** x [rows, in] times the transposed matrix [out, in], where that costs less than decoding first; null: decode. */
  product?: <V extends DecodedValue>(from: Decoding<V>, x: V, view: WeightView, stored: QuantisationOf<K>) => V | null;
  /** Scales that may train while the codes stay: the matrix is linear in them. */
  scales?: (stored: QuantisationOf<K>) => WeightView;
  /** Further tensors that belong to the matrix: scales, zero points, factors. */
  companions: (stored: QuantisationOf<K>) => readonly WeightView[];
}
