import { bytesOf } from "../tensor/floatCodec";
import { float32ToFloat16 } from "../tensor/halfPrecision";
import { roundToMxfp4 } from "./roundFloats";

/** Types that tensors of a GGUF file are written in. */
export type GgufWeightType = "F32" | "F16" | "Q8_0" | "Q4_0" | "MXFP4";

/** Weights that share a scale in the types that have one: rows must be a multiple of it. */
export const ggufBlock = 32;

interface GgufEncoding {
  /** Number of the type in the file (`ggml_type`). */
  id: number;
  blockElements: number;
  blockBytes: number;
  /** Whole blocks of row-major weights. */
  encode: (weights: Float32Array) => Uint8Array;
}

/**
 * Block layouts and roundings of ggml (`quantize_row_*_ref` in ggml-quants.c of ggml-org/llama.cpp), computed in float32 as
 * there. MXFP4's exponent is the one of compressed-tensors, so that weights that are MXFP4 already keep their codes.
 */
export const ggufEncodings: Record<GgufWeightType, GgufEncoding> = {
  F32: { id: 0, blockElements: 1, blockBytes: 4, encode: (weights) => bytesOf(weights) },
  F16: { id: 1, blockElements: 1, blockBytes: 2, encode: (weights) => bytesOf(float32ToFloat16(weights)) },
  Q8_0: { id: 8, blockElements: ggufBlock, blockBytes: 34, encode: encodeQ8 },
  Q4_0: { id: 2, blockElements: ggufBlock, blockBytes: 18, encode: encodeQ4 },
  MXFP4: { id: 39, blockElements: ggufBlock, blockBytes: 17, encode: encodeMxfp4 },
};

/** F16 d = max|x| / 127 and 32 integers x / d, halves away from zero. */
function encodeQ8(weights: Float32Array): Uint8Array {
  return eachBlock(weights, 34, (block, out) => {
    let most = 0;
    for (const value of block) most = Math.max(most, Math.abs(value));
    const scale = Math.fround(most / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    putHalf(out, scale);
    block.forEach((value, i) => {
      const scaled = Math.fround(value * inverse);
      out[2 + i] = Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5);
    });
  });
}

/** F16 d = (the weight of largest magnitude) / -8 and 32 nibbles x / d + 8: weight j low, j + 16 high in byte j. */
function encodeQ4(weights: Float32Array): Uint8Array {
  return eachBlock(weights, 18, (block, out) => {
    let largest = 0;
    for (const value of block) if (Math.abs(value) > Math.abs(largest)) largest = value;
    const scale = Math.fround(largest / -8);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    putHalf(out, scale);
    const code = (value: number) => Math.min(15, Math.trunc(Math.fround(Math.fround(value * inverse) + 8.5)));
    for (let j = 0; j < 16; j++) out[2 + j] = code(block[j]!) | (code(block[j + 16]!) << 4);
  });
}

/** A power of two as an exponent byte and 32 FP4 codes, in halves as Q4_0's. */
function encodeMxfp4(weights: Float32Array): Uint8Array {
  const { codes, exponents } = roundToMxfp4(weights);
  const codeAt = (i: number) => (codes[i >>> 1]! >>> (4 * (i & 1))) & 15;
  const out = new Uint8Array(exponents.length * 17);
  for (let g = 0; g < exponents.length; g++) {
    out[g * 17] = exponents[g]!;
    for (let j = 0; j < 16; j++) {
      out[g * 17 + 1 + j] = codeAt(g * ggufBlock + j) | (codeAt(g * ggufBlock + j + 16) << 4);
    }
  }
  return out;
}

function eachBlock(
  weights: Float32Array,
  blockBytes: number,
  encode: (block: Float32Array, out: Uint8Array) => void,
): Uint8Array {
  const blocks = weights.length / ggufBlock;
  const bytes = new Uint8Array(blocks * blockBytes);
  for (let b = 0; b < blocks; b++) {
    const block = weights.subarray(b * ggufBlock, (b + 1) * ggufBlock);
    encode(block, bytes.subarray(b * blockBytes, (b + 1) * blockBytes));
  }
  return bytes;
}

function putHalf(out: Uint8Array, value: number): void {
  const [half] = float32ToFloat16(Float32Array.of(value));
  out[0] = half! & 255;
  out[1] = half! >>> 8;
}

/** Whether every weight is a number that F16, which scales are stored in as well, can hold. */
export function fitsHalf(weights: Float32Array): boolean {
  return weights.every((value) => Math.abs(value) < 65_520);
}
