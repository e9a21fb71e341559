/** A second reader and writer of .safetensors, independent of the engine's, for comparing. */
import { readFileSync, writeFileSync } from "node:fs";

export interface Tensor {
  dtype: string;
  shape: number[];
  values: number[];
}

/** All F64, I64, F32, I32, U8 and BF16 tensors of a file. */
export function readTensors(file: string): Map<string, Tensor> {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  type Entry = { dtype: string; shape: number[]; data_offsets: [number, number] };
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + length)) as Record<string, Entry>;
  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const data = bytes.subarray(8 + length + data_offsets[0], 8 + length + data_offsets[1]);
    tensors.set(name, { dtype, shape, values: valuesOf(data, dtype) });
  }
  return tensors;
}

function valuesOf(data: Buffer, dtype: string): number[] {
  const read: Record<string, [number, (at: number) => number]> = {
    F64: [8, (at) => data.readDoubleLE(at)],
    I64: [8, (at) => Number(data.readBigInt64LE(at))],
    F32: [4, (at) => data.readFloatLE(at)],
    I32: [4, (at) => data.readInt32LE(at)],
    U8: [1, (at) => data[at]!],
    BF16: [2, (at) => bfloat(data.readUInt16LE(at))],
  };
  const found = read[dtype];
  if (!found) throw new Error(`the test reads no ${dtype}`);
  return Array.from({ length: data.length / found[0] }, (_, i) => found[1](i * found[0]));
}

/** The upper half of a float32. */
function bfloat(bits: number): number {
  const word = Buffer.alloc(4);
  word.writeUInt32LE(bits * 65536);
  return word.readFloatLE(0);
}

/** Writes float32 tensors under any names. */
export function writeTensors(file: string, tensors: Record<string, number[]>): void {
  let offset = 0;
  const entries = Object.entries(tensors).map(([name, values]) => {
    const data_offsets = [offset, (offset += values.length * 4)];
    return [name, { dtype: "F32", shape: [values.length], data_offsets }] as const;
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const data = Object.values(tensors).map((values) => Buffer.from(Float32Array.from(values).buffer));
  writeFileSync(file, Buffer.concat([length, header, ...data]));
}
