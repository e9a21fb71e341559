import { readFileSync } from "node:fs";
import { openGguf } from "../../src/engine/gguf/header";
import { float4Values } from "../../src/engine/tensor/float4";

export interface GgufNumbers {
  type: string;
  shape: number[];
  values: Float32Array;
}

/** Numbers of every tensor of a GGUF file, decoded by its layout description alone, row-major. */
export async function readGgufNumbers(file: string): Promise<Map<string, GgufNumbers>> {
  const { tensors } = await openGguf(file);
  const bytes = readFileSync(file);
  return new Map(
    tensors.map(({ name, type, shape, byteOffset, byteLength }) => {
      const data = bytes.subarray(byteOffset, byteOffset + byteLength);
      return [name, { type, shape, values: decode(type, data) }];
    }),
  );
}

function decode(type: string, data: Buffer): Float32Array {
  switch (type) {
    case "F32":
      return Float32Array.from({ length: data.length / 4 }, (_, i) => data.readFloatLE(4 * i));
    case "F16":
      return Float32Array.from({ length: data.length / 2 }, (_, i) => half(data.readUInt16LE(2 * i)));
    case "Q8_0":
      return blocks(data, 34, (block, i) => half(block.readUInt16LE(0)) * block.readInt8(2 + i));
    case "Q4_0":
      return blocks(data, 18, (block, i) => half(block.readUInt16LE(0)) * (nibble(block, 2, i) - 8));
    case "MXFP4":
      return blocks(data, 17, (block, i) => 2 ** (block[0]! - 127) * float4Values[nibble(block, 1, i)]!);
    default:
      throw new Error(`no decoder for ${type}`);
  }
}

function blocks(data: Buffer, size: number, value: (block: Buffer, i: number) => number): Float32Array {
  const result = new Float32Array((data.length / size) * 32);
  for (let b = 0; b < data.length / size; b++) {
    const block = data.subarray(b * size, (b + 1) * size);
    for (let i = 0; i < 32; i++) result[32 * b + i] = value(block, i);
  }
  return result;
}

/** Weights 0 to 15 are the low nibbles, 16 to 31 the high ones. */
function nibble(block: Buffer, from: number, i: number): number {
  const byte = block[from + (i % 16)]!;
  return i < 16 ? byte & 15 : byte >>> 4;
}

function half(bits: number): number {
  const [sign, exponent, fraction] = [bits >>> 15 ? -1 : 1, (bits >>> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}
