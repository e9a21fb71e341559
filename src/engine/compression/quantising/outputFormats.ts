import type { QuantisationFormat } from "../../../protocol/plan";
import type { TensorLayout } from "../../checkpoint/headerFormat";
import type { Scheme } from "../../model/quantisation/scheme";
import { bytesOf, decodeFloats, encodeFloats, type WritableFloat } from "../../tensor/floatCodec";
import { packedRowBytes } from "../../weights/bitStream";
import { mxfp4Group } from "../../weights/float4";
import { packIntegers, packZeros } from "../../weights/packIntegers";
import { roundToFloat8, roundToMxfp4 } from "../../weights/roundFloats";
import type { IntegerMatrix } from "../../weights/roundIntegers";
import type { Bits } from "../../weights/view";

/** What one layer's experts are stored with. */
export interface StoredGrid {
  bits: Bits;
  /** Inputs that share a scale; 0: a row. Formats with a group of their own do not look at it. */
  group: number;
  /** false: groups have zero points, where the format does. */
  symmetric?: boolean | undefined;
}

/** Rows and columns that share a scale of DeepSeek's FP8. */
export const float8Block = 128;

type Size = readonly [outputs: number, inputs: number];
/** Names are endings under the module's own. */
type StoredParts = TensorLayout[];

/** One way of writing quantised experts. */
export interface OutputFormat {
  /** Whether codes are integers that methods choose; else each weight goes to the nearest code. */
  integers: boolean;
  scheme: (grid: StoredGrid) => Scheme;
  parts: (size: Size, grid: StoredGrid, scaleType: WritableFloat) => StoredParts;
  /** Why a matrix of this size cannot be written so, or null; says what can. */
  refusal: (size: Size, grid: StoredGrid) => string | null;
  /** Bytes by ending of what the size alone says. */
  known: (size: Size) => Record<string, Uint8Array>;
  /** Bytes of the other parts by ending. */
  encode: (size: Size, matrix: IntegerMatrix | Float32Array, scaleType: WritableFloat) => Record<string, Uint8Array>;
}

export const outputFormats: Record<QuantisationFormat, OutputFormat> = {
  "pack-quantized": {
    integers: true,
    scheme: ({ bits, group }) => ({ kind: "packed", bits, group: group || null }),
    parts: ([O, I], { bits, group, symmetric = true }, dtype) => [
      { name: "weight_packed", dtype: "I32", shape: [O, packedRowBytes(I, bits) / 4] },
      { name: "weight_scale", dtype, shape: [O, I / (group || I)] },
      ...(symmetric
        ? []
        : [
            {
              name: "weight_zero_point",
              dtype: "I32",
              shape: [packedRowBytes(O, bits) / 4, I / (group || I)],
            } as const,
          ]),
      { name: "weight_shape", dtype: "I64", shape: [2] },
    ],
    refusal: ([, I], { group }) => {
      if (group === 0 || I % group === 0) return null;
      const fitting = [16, 32, 64, 128, 256].filter((one) => I % one === 0);
      const others = fitting.length > 0 ? `${fitting.join(", group=")} or group=0` : "0";
      return `a group of ${group} inputs does not divide the width ${I}; use group=${others} (a scale a row)`;
    },
    encode: ([O, I], matrix, scaleType) => {
      const { codes, scales, zeros, bits, group } = matrix as IntegerMatrix;
      return {
        weight_packed: packIntegers(codes, O, I, bits),
        weight_scale: encodeFloats(scales, scaleType),
        ...(zeros === null ? {} : { weight_zero_point: packZeros(zeros, O, I / group, bits) }),
      };
    },
    known: ([O, I]) => ({ weight_shape: bytesOf(BigInt64Array.of(BigInt(O), BigInt(I))) }),
  },
  "fp8-block": {
    integers: false,
    scheme: () => ({ kind: "scaled", scale: "scale_inv", block: [float8Block, float8Block] }),
    parts: ([O, I]) => [
      { name: "weight", dtype: "F8_E4M3", shape: [O, I] },
      {
        name: "weight_scale_inv",
        dtype: "F32",
        shape: [Math.ceil(O / float8Block), Math.ceil(I / float8Block)],
      },
    ],
    // transformers takes rows / scale rows for the block, and is silently wrong where that is another one.
    refusal: ([O, I]) =>
      O % float8Block === 0 && I % float8Block === 0
        ? null
        : `blocks of ${float8Block} x ${float8Block} do not divide [${O}, ${I}], which loaders read wrongly; use format=fp8 (a scale a row)`,
    encode: (size, matrix) => {
      const { codes, scales } = roundToFloat8(matrix as Float32Array, size, [float8Block, float8Block]);
      return { weight: codes, weight_scale_inv: bytesOf(scales) };
    },
    known: () => ({}),
  },
  fp8: {
    integers: false,
    scheme: () => ({ kind: "scaled", scale: "scale", block: "row" }),
    parts: ([O, I], _grid, dtype) => [
      { name: "weight", dtype: "F8_E4M3", shape: [O, I] },
      { name: "weight_scale", dtype, shape: [O, 1] },
    ],
    refusal: () => null,
    encode: ([O, I], matrix, scaleType) => {
      const store = (scales: Float32Array) => decodeFloats(encodeFloats(scales, scaleType), scaleType);
      const { codes, scales } = roundToFloat8(matrix as Float32Array, [O, I], [1, I], store);
      return { weight: codes, weight_scale: encodeFloats(scales, scaleType) };
    },
    known: () => ({}),
  },
  mxfp4: {
    integers: false,
    scheme: () => ({ kind: "mxfp4" }),
    parts: ([O, I]) => [
      { name: "weight_packed", dtype: "U8", shape: [O, I / 2] },
      { name: "weight_scale", dtype: "U8", shape: [O, I / mxfp4Group] },
    ],
    refusal: ([, I]) =>
      I % mxfp4Group === 0
        ? null
        : `MXFP4's group of ${mxfp4Group} inputs does not divide the width ${I}; use format=fp8, or the method gptq with group=16`,
    encode: (_size, matrix) => {
      const { codes, exponents } = roundToMxfp4(matrix as Float32Array);
      return { weight_packed: codes, weight_scale: exponents };
    },
    known: () => ({}),
  },
};
