import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { formatSafetensorsHeader } from "../../src/engine/checkpoint/headerFormat";
import { byteLengthOf } from "../../src/engine/tensor/dtype";
import { bundleChild } from "../engine/checkpoint/bundleChild";
import { defaultShape } from "./makeCheckpoint";
import { syntheticFamilies } from "./syntheticFamilies";

/**
 * A model of 40 layers of 831 experts, a shard a layer; the data are holes of sparse files, since only headers are read.
 * @returns how many tensors it has
 */
export function manyTensors(folder: string): number {
  const numLayers = 40;
  const shape = { ...defaultShape, numLayers, numExperts: 831 };
  const { tensors, config } = syntheticFamilies.qwen3_moe(shape);
  const weightMap: Record<string, string> = {};
  for (let s = 0; s < numLayers; s++) {
    const shard = `model-${String(s + 1).padStart(5, "0")}-of-000${numLayers}.safetensors`;
    // What belongs to no layer goes with the first.
    const inShard = tensors
      .filter(({ name }) => Number(/\.layers\.(\d+)\./.exec(name)?.[1] ?? 0) === s)
      .map(({ name, shape: dims }) => ({ name, dtype: "BF16" as const, shape: dims }));
    for (const { name } of inShard) weightMap[name] = shard;
    const header = formatSafetensorsHeader(inShard, { format: "pt" });
    const bytes = inShard.reduce((sum, tensor) => sum + byteLengthOf(tensor.dtype, tensor.shape), 0);
    const file = openSync(path.join(folder, shard), "w");
    writeSync(file, header);
    ftruncateSync(file, header.byteLength + bytes);
    closeSync(file);
  }
  writeFileSync(
    path.join(folder, "model.safetensors.index.json"),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
  writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
  return tensors.length;
}

export interface Inspection {
  supported: boolean;
  tensors: number;
  layers: number;
  shards: number;
  openMs: number;
  /** Opened and inspected. */
  totalMs: number;
  cpuMs: number;
  peakBytes: number;
}

/** Opens and inspects a checkpoint in processes of their own, one after the other. `scratch`: where the code is bundled to. */
export async function inspectInProcesses(folder: string, scratch: string, times: number): Promise<Inspection[]> {
  const child = await bundleChild(scratch);
  return Array.from({ length: times }, () => {
    const { stdout } = spawnSync(process.execPath, [child, "inspect", folder], { encoding: "utf8" });
    return JSON.parse(stdout) as Inspection;
  });
}
