import { copyFileSync, mkdirSync } from "node:fs";
import path from "node:path";
import {
  readSafetensorsFile,
  writeSafetensorsFile,
  type MemoryTensor,
} from "../../src/engine/checkpoint/safetensorsFile";
import type { OpenModel } from "../../src/engine/run/work";
import { goldenCheckpoint } from "./goldens";
import { openModel } from "./tinyModels";

/** A golden with a multi-token-prediction layer behind its last one: that layer's tensors in other bytes, and its own. */
export async function withPredictionLayer(family: string, folder: string): Promise<OpenModel> {
  const from = goldenCheckpoint(family);
  const to = path.join(folder, `${family}-mtp`);
  mkdirSync(to, { recursive: true });
  copyFileSync(path.join(from, "config.json"), path.join(to, "config.json"));
  const { tensors } = await readSafetensorsFile(path.join(from, "model.safetensors"));
  const numLayers = (await openModel(from)).description.layers.length;
  const prefix = `model.layers.${numLayers - 1}.`;
  const extended = new Map<string, MemoryTensor>(tensors);
  for (const [name, tensor] of tensors) {
    if (!name.startsWith(prefix)) continue;
    const data = tensor.data.map((byte) => byte ^ 0x15);
    extended.set(name.replace(prefix, `model.layers.${numLayers}.`), { ...tensor, data });
  }
  for (const name of ["enorm.weight", "shared_head.norm.weight"]) {
    extended.set(`model.layers.${numLayers}.${name}`, tensors.get("model.norm.weight")!);
  }
  await writeSafetensorsFile(path.join(to, "model.safetensors"), extended);
  return openModel(to);
}
