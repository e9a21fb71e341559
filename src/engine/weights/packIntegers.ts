import { packedRowBytes } from "./bitStream";
import type { Bits } from "./view";

/**
 * Signed codes [rows, columns] as compressed-tensors packs them: u = code + 2^(bits - 1), a bit stream a row with the lowest
 * bit first, filled up to a whole 32-bit word.
 */
export function packIntegers(codes: Int8Array, rows: number, columns: number, bits: Bits): Uint8Array {
  const width = packedRowBytes(columns, bits);
  const packed = new Uint8Array(rows * width);
  const offset = 2 ** (bits - 1);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const u = codes[row * columns + column]! + offset;
      const bit = column * bits;
      const at = row * width + (bit >>> 3);
      const shifted = u << (bit & 7);
      packed[at]! |= shifted & 255;
      // Three bits may lie in two bytes.
      if (shifted > 255) packed[at + 1]! |= shifted >>> 8;
    }
  }
  return packed;
}

/**
 * Zero points [rows, groups] as compressed-tensors packs them: the same bit stream along the rows, in I32 words
 * [ceil(rows * bits / 32), groups].
 */
export function packZeros(zeros: Int8Array, rows: number, groups: number, bits: Bits): Uint8Array {
  const turned = Int8Array.from(
    { length: rows * groups },
    (_, i) => zeros[(i % rows) * groups + Math.floor(i / rows)]!,
  );
  const columns = packIntegers(turned, groups, rows, bits);
  const words = packedRowBytes(rows, bits) / 4;
  const packed = new Uint8Array(columns.length);
  for (let g = 0; g < groups; g++) {
    for (let word = 0; word < words; word++) {
      const from = (g * words + word) * 4;
      packed.set(columns.subarray(from, from + 4), (word * groups + g) * 4);
    }
  }
  return packed;
}
