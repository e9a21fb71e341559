import { readFileSync } from "node:fs";
import path from "node:path";
import type { Checkpoint, TensorEntry } from "../../../src/engine/checkpoint/checkpoint";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { dtypeBits, elementCount, type DType } from "../../../src/engine/tensor/dtype";

/** The fixture folder of one family: `checkpoint/` and `golden.safetensors`. */
export const goldenFolder = (family: string) => path.join("test", "fixtures", "goldens", family);

/** A checkpoint whose config and tensors a test may change. */
export type EditableCheckpoint = Omit<Checkpoint, "tensors"> & { tensors: Map<string, TensorEntry> };

/** Whether a tensor belongs to a multimodal golden's other tower, which nothing of ours uses. */
export const isVision = (tensor: string) =>
  /(?:^|\.)(?:visual|vision_(?:tower|model)|embed_vision|multi_modal_projector)\./.test(tensor);

export async function openGolden(family: string): Promise<EditableCheckpoint> {
  return editable(await openCheckpoint(path.join(goldenFolder(family), "checkpoint")));
}

export function editable(checkpoint: Checkpoint): EditableCheckpoint {
  const config = JSON.parse(JSON.stringify(checkpoint.config)) as Checkpoint["config"];
  return { ...checkpoint, config, tensors: new Map(checkpoint.tensors) };
}

/** Sets keys of config.json; undefined takes one away. */
export function changeConfig({ config }: EditableCheckpoint, changes: Record<string, unknown>): void {
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) Reflect.deleteProperty(config, key);
    else config[key] = value;
  }
}

/** Adds a tensor that exists only as a header entry. */
export function addTensor(checkpoint: EditableCheckpoint, name: string, shape: number[], dtype: DType = "BF16"): void {
  const byteLength = (elementCount(shape) * dtypeBits[dtype]) / 8;
  checkpoint.tensors.set(name, { name, dtype, shape, shard: checkpoint.shards[0]!, byteOffset: 0, byteLength });
}

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** Header and bytes of one safetensors file; a plain reader of trusted fixtures, independent of the engine's. */
export function readSafetensors(file: string): { header: Header; bytes: Buffer; start: number } {
  const bytes = readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  return { header: JSON.parse(bytes.toString("utf8", 8, start)) as Header, bytes, start };
}

export function tensorOf(
  file: ReturnType<typeof readSafetensors>,
  name: string,
): { shape: number[]; values: Float64Array } {
  const entry = file.header[name];
  if (entry === undefined) throw new Error(`no ${name}`);
  const [from, to] = entry.data_offsets;
  const data = new Uint8Array(file.bytes.subarray(file.start + from, file.start + to)).buffer;
  return { shape: entry.shape, values: valuesOf(entry.dtype, data) };
}

function valuesOf(dtype: string, data: ArrayBuffer): Float64Array {
  switch (dtype) {
    case "I64":
      return Float64Array.from(new BigInt64Array(data), Number);
    case "F32":
      return Float64Array.from(new Float32Array(data));
    case "BF16":
      return Float64Array.from(new Float32Array(Uint32Array.from(new Uint16Array(data), (code) => code << 16).buffer));
    default:
      throw new Error(`dtype ${dtype}`);
  }
}
