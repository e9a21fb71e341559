import path from "node:path";
import { readSafetensorsFile } from "../../src/engine/checkpoint/safetensorsFile";

const folder = path.join(import.meta.dirname, "../fixtures/goldens");

/** Folder of a family's tiny reference checkpoint. */
export function goldenCheckpoint(family: string): string {
  return path.join(folder, family, "checkpoint");
}

/** The numbers that PyTorch and transformers computed on it (make_goldens.py beside them defines each). */
export async function readGolden(family: string): Promise<Map<string, { shape: number[]; values: number[] }>> {
  const { tensors } = await readSafetensorsFile(path.join(folder, family, "golden.safetensors"));
  return new Map(
    [...tensors].map(([name, { dtype, shape, data }]) => {
      const bytes = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
      const values =
        dtype === "I64" ? Array.from(new BigInt64Array(bytes), Number) : Array.from(new Float32Array(bytes));
      return [name, { shape, values }];
    }),
  );
}

/** Largest difference as a share of the reference's largest magnitude. */
export function relativeToLargest(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(actual[i]! - expected[i]!));
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return Number.isNaN(difference) ? Infinity : largest === 0 ? difference : difference / largest;
}
