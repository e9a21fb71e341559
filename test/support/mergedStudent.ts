import { readFileSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import {
  readSafetensorsFile,
  writeSafetensorsFile,
  type MemoryTensor,
} from "../../src/engine/checkpoint/safetensorsFile";
import type { OpenModel } from "../../src/engine/run/work";
import { decodeFloats, encodeFloats } from "../../src/engine/tensor/floatCodec";
import { openModel } from "./tinyModels";

const countKeys = ["num_local_experts", "num_experts", "n_routed_experts"];

/**
 * The merged student of the goldens, in f32: experts 2g and 2g + 1 averaged, router row (and correction bias) that of 2g.
 * Of checkpoints that store each expert by itself.
 */
export async function writeMergedStudent(teacher: string, directory: string): Promise<OpenModel> {
  mkdirSync(directory, { recursive: true });
  const config = JSON.parse(readFileSync(path.join(teacher, "config.json"), "utf8")) as Record<string, unknown>;
  for (const key of countKeys) if (typeof config[key] === "number") config[key] = config[key] / 2;
  writeFileSync(path.join(directory, "config.json"), JSON.stringify(config));
  const { tensors } = await readSafetensorsFile(path.join(teacher, "model.safetensors"));
  const numbers = (name: string) => {
    const { data, dtype } = tensors.get(name)!;
    return decodeFloats(data, dtype);
  };
  const merged = new Map<string, MemoryTensor>();
  for (const [name, { shape }] of tensors) {
    const [, before, expert, behind] = /^(.*\.experts\.)(\d+)(\..*)$/.exec(name) ?? [];
    const add = (as: string, values: Float32Array, size: readonly number[]) =>
      merged.set(as, { dtype: "F32", shape: size, data: encodeFloats(values, "F32") });
    if (before !== undefined) {
      if (Number(expert) % 2 === 1) continue;
      const other = numbers(`${before}${Number(expert) + 1}${behind}`);
      add(
        `${before}${Number(expert) / 2}${behind}`,
        numbers(name).map((value, i) => (value + other[i]!) / 2),
        shape,
      );
    } else if (/\.gate\.(weight|e_score_correction_bias)$/.test(name)) {
      const width = shape[1] ?? 1;
      const rows = numbers(name).filter((_, i) => Math.floor(i / width) % 2 === 0);
      add(name, rows, [shape[0]! / 2, ...shape.slice(1)]);
    } else add(name, numbers(name), shape);
  }
  await writeSafetensorsFile(path.join(directory, "model.safetensors"), merged);
  return openModel(directory);
}
