import type { DType } from "../tensor/dtype";

/**
 * A contiguous run of elements inside one stored tensor: the whole of it, or one expert's slice of a fused tensor.
 * `shape` is that of the numbers which the view stands for; `offset` counts stored elements from the tensor's start.
 */
export interface WeightView {
  tensor: string;
  offset: number;
  shape: readonly number[];
  dtype: DType;
  /** Set where stored values are no numbers yet: the form they are in (forms.ts), and what else it needs. */
  quantisation?: Quantisation;
  /** Products with this matrix are computed in 8-bit integers: only in passes that are looked at (model/previewProducts.ts). */
  product?: "int8";
}

/** Every way of storing a matrix [rows, columns] other than as plain numbers. */
export type Quantisation =
  /**
   * F8_E4M3 or I8 codes with one scale a block: value = code * scale[row / blockRows, column / blockColumns]. One scale a
   * row has blocks of one row, one for all a single block.
   */
  | { kind: "scaled"; scales: WeightView; blockRows: number; blockColumns: number }
  /** MXFP4: two FP4 codes a byte (low nibble first), U8 exponents [rows, columns / 32]: value = code * 2^(exponent - 127). */
  | { kind: "mxfp4"; scales: WeightView }
  /** NVFP4: codes as MXFP4, F8_E4M3 scales [rows, columns / 16]: value = code * scale / global, global F32 [1]. */
  | { kind: "nvfp4"; scales: WeightView; global: WeightView }
  /** Integers in a bit stream a row (compressed-tensors). */
  | ({ kind: "packed" } & PackedIntegers)
  /** Integers in words along the inputs (GPTQ): the matrix is [inputs, outputs]. */
  | ({ kind: "gptq" } & GroupedIntegers)
  /** Integers in words along the outputs, shuffled (AWQ gemm): the matrix is [inputs, outputs]. */
  | ({ kind: "awq" } & GroupedIntegers)
  /** Reroute's factored layout (docs/factored-layout.md): the matrix [out, in] is made of stored factors. */
  | { kind: "factored"; form: FactoredForm };

export type Bits = 2 | 3 | 4 | 8;

/** value = (u - zero) * scale for unsigned codes u of `bits` bits, with one scale for each `group` columns of a row. */
export interface PackedIntegers {
  bits: Bits;
  /** Columns that share a scale: a divisor of the width, or the width itself (one scale a row). */
  group: number;
  /** [rows, columns / group] */
  scales: WeightView;
  /** I32 words [ceil(rows * bits / 32), columns / group], packed along the rows; null: 2^(bits - 1). */
  zeros: WeightView | null;
}

/** value = (u - zero) * scale with one scale and zero for each `group` inputs of an output. */
export interface GroupedIntegers {
  bits: Bits;
  group: number;
  /** [inputs / group, outputs] */
  scales: WeightView;
  /** I32 words [inputs / group, outputs * bits / 32] */
  zeros: WeightView;
  /** What is added to stored zeros: GPTQ's first version stores them minus one. */
  zeroOffset: 0 | 1;
}

/** m outputs, n inputs. Factors marked shared belong to all experts of a layer. */
export type FactoredForm =
  /** left [m, r] times right [r, n], plus a shared base [m, n] where there is one. */
  | { kind: "low-rank"; left: WeightView; right: WeightView; base: WeightView | null }
  /** left [m, r] times phi(sum_k softmax(mixture)_k bases_k), mixture [b], bases [b, r, n] shared. */
  | { kind: "shared-basis"; left: WeightView; mixture: WeightView; bases: WeightView; activation: "silu" | "tanh" }
  /** left [m, r2] times (sum_a mixture_a core_a) times right [r3, n]; core [r1, r2, r3]; all but mixture [r1] shared. */
  | { kind: "tucker"; mixture: WeightView; left: WeightView; core: WeightView; right: WeightView };
