import { readFileSync } from "node:fs";
import path from "node:path";
import type { Checkpoint, Shard, TensorEntry } from "../../../src/engine/checkpoint/checkpoint";
import { isDType } from "../../../src/engine/tensor/dtype";

/** The fixture folder of one family: `checkpoint/` and `golden.safetensors`. */
export const goldenFolder = (family: string) => path.join("test", "fixtures", "goldens", family);

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** Headers of one safetensors file and its bytes; a plain reader of trusted fixtures, independent of the engine's. */
export function readSafetensors(file: string): { header: Header; data: Buffer; start: number } {
  const bytes = readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(bytes.toString("utf8", 8, start)) as Header & {
    __metadata__: never;
  };
  return { header, data: bytes, start };
}

export function loadCheckpoint(directory: string): Checkpoint {
  const file = path.join(directory, "model.safetensors");
  const { header, data, start } = readSafetensors(file);
  const shard: Shard = {
    name: "model.safetensors",
    realPath: file,
    sizeBytes: data.length,
    modifiedMs: 0,
    metadata: {},
  };
  const tensors = new Map<string, TensorEntry>();
  for (const [
    name,
    {
      dtype,
      shape,
      data_offsets: [from, to],
    },
  ] of Object.entries(header)) {
    if (!isDType(dtype)) throw new Error(`dtype ${dtype} of ${name}`);
    tensors.set(name, { name, dtype, shape, shard, byteOffset: start + from, byteLength: to - from });
  }
  const config = JSON.parse(readFileSync(path.join(directory, "config.json"), "utf8")) as Checkpoint["config"];
  return { directory, config, shards: [shard], tensors };
}

/** A tensor of golden.safetensors as numbers. */
export function goldenTensor(
  golden: ReturnType<typeof readSafetensors>,
  name: string,
): { shape: number[]; values: Float64Array } {
  const entry = golden.header[name];
  if (entry === undefined) throw new Error(`no ${name}`);
  const [from, to] = entry.data_offsets;
  const bytes = new Uint8Array(golden.data.subarray(golden.start + from, golden.start + to)).buffer;
  const values =
    entry.dtype === "I64"
      ? Float64Array.from(new BigInt64Array(bytes), Number)
      : Float64Array.from(new Float32Array(bytes));
  return { shape: entry.shape, values };
}

/** A BF16 tensor of a fixture checkpoint. */
export function checkpointTensor(file: ReturnType<typeof readSafetensors>, name: string): Float32Array {
  const entry = file.header[name];
  if (entry?.dtype !== "BF16") throw new Error(`no BF16 tensor ${name}`);
  const [from, to] = entry.data_offsets;
  const codes = new Uint16Array(new Uint8Array(file.data.subarray(file.start + from, file.start + to)).buffer);
  return new Float32Array(Uint32Array.from(codes, (code) => code << 16).buffer);
}
