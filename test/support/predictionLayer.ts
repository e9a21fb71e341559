import { copyFileSync, mkdirSync } from "node:fs";
import path from "node:path";
import {
  readSafetensorsFile,
  writeSafetensorsFile,
  type MemoryTensor,
} from "../../src/engine/checkpoint/safetensorsFile";
import type { OpenModel } from "../../src/engine/run/work";
import { bytesOf } from "../../src/engine/tensor/floatCodec";
import { goldenCheckpoint } from "./goldens";
import { openModel } from "./tinyModels";

/**
 * A golden with a multi-token-prediction layer: its last layer's tensors in other bytes, and its own.
 * @param at the layer's place, "model.layers.<layers>" by default
 * @param stacked experts in two tensors, whatever the golden's are in
 */
export async function withPredictionLayer(
  family: string,
  folder: string,
  { at, stacked = false }: { at?: string; stacked?: boolean } = {},
): Promise<OpenModel> {
  const from = goldenCheckpoint(family);
  const to = path.join(folder, `${family}-mtp-${at ?? "behind"}-${stacked}`);
  mkdirSync(to, { recursive: true });
  copyFileSync(path.join(from, "config.json"), path.join(to, "config.json"));
  const { tensors } = await readSafetensorsFile(path.join(from, "model.safetensors"));
  const numLayers = (await openModel(from)).description.layers.length;
  const prefix = `model.layers.${numLayers - 1}.`;
  const own = at ?? `model.layers.${numLayers}`;
  const extended = new Map<string, MemoryTensor>(tensors);
  for (const [name, tensor] of tensors) {
    if (!name.startsWith(prefix)) continue;
    const data = tensor.data.map((byte) => byte ^ 0x15);
    extended.set(name.replace(prefix, `${own}.`), { ...tensor, data });
  }
  for (const name of ["enorm.weight", "shared_head.norm.weight"]) {
    extended.set(`${own}.${name}`, tensors.get("model.norm.weight")!);
  }
  if (stacked) stackExperts(extended, `${own}.mlp.experts.`);
  await writeSafetensorsFile(path.join(to, "model.safetensors"), extended);
  return openModel(to);
}

/** Gate and up rows of all experts in one tensor, down rows in another. */
function stackExperts(tensors: Map<string, MemoryTensor>, prefix: string): void {
  const partsOf = (names: readonly string[]) => {
    const parts: MemoryTensor[] = [];
    for (let expert = 0; tensors.has(`${prefix}${expert}.${names[0]!}.weight`); expert++) {
      for (const name of names) parts.push(tensors.get(`${prefix}${expert}.${name}.weight`)!);
    }
    return parts;
  };
  for (const [name, projections] of [
    ["gate_up_proj", ["gate_proj", "up_proj"]],
    ["down_proj", ["down_proj"]],
  ] as const) {
    const parts = partsOf(projections);
    const [rows, columns] = parts[0]!.shape as [number, number];
    const shape = [parts.length / projections.length, rows * projections.length, columns];
    tensors.set(`${prefix}${name}`, {
      ...parts[0]!,
      shape,
      data: Buffer.concat(parts.map(({ data }) => bytesOf(data))),
    });
  }
  for (const name of tensors.keys())
    if (/^\d/.test(name.slice(prefix.length)) && name.startsWith(prefix)) tensors.delete(name);
}
