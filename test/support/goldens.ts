import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { readSafetensorsFile } from "../../src/engine/checkpoint/safetensorsFile";

const fixtures = path.join(import.meta.dirname, "../fixtures");
const folder = path.join(fixtures, "goldens");

/** A tiny checkpoint and what PyTorch and transformers computed on it. */
export interface GoldenCase {
  /** The family, or the family with the options that the variant is about. */
  name: string;
  family: string;
  checkpoint: string;
  golden: string;
}

/** One checkpoint of every family (goldens/), and others with further shapes and options (variants/). */
export function goldenCases(): GoldenCase[] {
  return ["goldens", "variants"].flatMap((kind) =>
    readdirSync(path.join(fixtures, kind), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => ({
        name,
        family: name.split("-")[0]!,
        checkpoint: path.join(fixtures, kind, name, "checkpoint"),
        golden: path.join(fixtures, kind, name, "golden.safetensors"),
      })),
  );
}

/** The case with a name: a family, or a variant. */
export function goldenCase(name: string): GoldenCase {
  return goldenCases().find((one) => one.name === name)!;
}

/** Folder of a family's tiny reference checkpoint. */
export function goldenCheckpoint(family: string): string {
  return path.join(folder, family, "checkpoint");
}

export type Golden = Map<string, { shape: number[]; values: number[] }>;

/** The numbers that PyTorch and transformers computed on it (make_goldens.py beside them defines each). */
export function readGolden(family: string): Promise<Golden> {
  return readGoldenFile(path.join(folder, family, "golden.safetensors"));
}

export async function readGoldenFile(file: string): Promise<Golden> {
  const { tensors } = await readSafetensorsFile(file);
  return new Map(
    [...tensors].map(([name, { dtype, shape, data }]) => {
      const bytes = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
      const values =
        dtype === "I64" ? Array.from(new BigInt64Array(bytes), Number) : Array.from(new Float32Array(bytes));
      return [name, { shape, values }];
    }),
  );
}

/** Copies a checkpoint with its config rewritten as released checkpoints have it. */
export function copyInReleasedStyle(checkpoint: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(checkpoint)) copyFileSync(path.join(checkpoint, name), path.join(to, name));
  const config = JSON.parse(readFileSync(path.join(checkpoint, "config.json"), "utf8")) as Record<string, unknown>;
  toReleasedStyle(config);
  writeFileSync(path.join(to, "config.json"), JSON.stringify(config));
}

/** Rewrites a config as released checkpoints have it. */
export function toReleasedStyle(config: Record<string, unknown>): void {
  const { rope_theta, rope_type, partial_rotary_factor, ...rest } = config["rope_parameters"] as Record<
    string,
    unknown
  >;
  delete config["rope_parameters"];
  config["rope_theta"] = rope_theta;
  if (partial_rotary_factor !== undefined) config["partial_rotary_factor"] = partial_rotary_factor;
  config["rope_scaling"] = rope_type === "default" ? null : { type: rope_type, ...rest };
  config["torch_dtype"] = config["dtype"];
  delete config["dtype"];
  // Some are released with their layer types; the other families say them by other keys.
  const types = config["layer_types"] as string[] | undefined;
  if (types?.includes("linear_attention")) config["full_attention_interval"] = types.indexOf("full_attention") + 1;
  if (!["gpt_oss", "lfm2_moe"].includes(config["model_type"] as string)) delete config["layer_types"];
  if (config["model_type"] === "qwen3_moe") {
    config["num_experts"] = config["num_local_experts"];
    delete config["num_local_experts"];
  }
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
