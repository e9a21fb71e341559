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
  return ["goldens", "variants"].flatMap((kind) => casesIn(path.join(fixtures, kind)));
}

/** Goldens outside the fixtures; none where no folder is named. */
export function otherGoldens(directory: string | undefined): GoldenCase[] {
  if (directory === undefined) return [];
  return casesIn(directory).map((one) => ({ ...one, name: `other ${one.name}` }));
}

function casesIn(directory: string): GoldenCase[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => ({
      name,
      family: name.split("-")[0]!,
      checkpoint: path.join(directory, name, "checkpoint"),
      golden: path.join(directory, name, "golden.safetensors"),
    }));
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
  const config = JSON.parse(readFileSync(path.join(checkpoint, "config.json"), "utf8")) as Json;
  toReleasedStyle(config);
  writeFileSync(path.join(to, "config.json"), JSON.stringify(config));
}

type Json = Record<string, unknown>;

/** Rewrites a config of transformers 5 as released checkpoints have it. */
export function toReleasedStyle(config: Json): void {
  const text = (config["text_config"] ?? config) as Json;
  if (text["model_type"] === "gemma4_text") {
    // Released with rotary parameters and types of layers as they are; sizes of full attention have keys of their own.
    const [full = text] = Object.values(text["per_layer_config"] as Record<string, Json>);
    delete text["per_layer_config"];
    text["global_head_dim"] = full["head_dim"];
    text["num_global_key_value_heads"] = full["num_key_value_heads"];
    return;
  }
  const parameters = text["rope_parameters"] as Json;
  const { full_attention, sliding_attention } = parameters as { full_attention?: Json; sliding_attention?: Json };
  const { rope_theta, rope_type, partial_rotary_factor, ...rest } = full_attention ?? parameters;
  delete text["rope_parameters"];
  text["rope_theta"] = rope_theta;
  if (sliding_attention) text["swa_rope_theta"] = sliding_attention["rope_theta"];
  if (partial_rotary_factor !== undefined) text["partial_rotary_factor"] = partial_rotary_factor;
  const isPlain = rope_type === "default" && Object.keys(rest).length === 0;
  text["rope_scaling"] = isPlain ? null : { type: rope_type, ...rest };
  text["torch_dtype"] = text["dtype"];
  delete text["dtype"];
  const types = text["layer_types"] as string[] | undefined;
  switch (text["model_type"]) {
    case "qwen3_moe":
    case "qwen3_vl_moe_text":
      text["num_experts"] = text["num_local_experts"];
      delete text["num_local_experts"];
      break;
    case "mimo_v2_flash":
      text["hybrid_layer_pattern"] = types!.map((type) => (type === "sliding_attention" ? 1 : 0));
      break;
    case "minimax_m3_vl_text":
      text["sparse_attention_config"] = {
        sparse_attention_freq: types!.map((type) => (type === "minimax_m3_sparse" ? 1 : 0)),
        ...{ sparse_num_index_heads: text["index_n_heads"], sparse_index_dim: text["index_head_dim"] },
        ...{ sparse_block_size: text["index_block_size"], sparse_topk_blocks: text["index_topk_blocks"] },
      };
      for (const key of Object.keys(text)) if (key.startsWith("index_")) Reflect.deleteProperty(text, key);
      break;
  }
  // As far as released configs say it without layer types.
  const linearEvery = types?.includes("linear_attention") ? types.indexOf("full_attention") + 1 : undefined;
  if (linearEvery !== undefined) text["full_attention_interval"] = linearEvery;
  const sparse = text["mlp_layer_types"] as string[] | undefined;
  if (sparse) text["moe_layer_freq"] = sparse.map((type) => (type === "sparse" ? 1 : 0));
  delete text["mlp_layer_types"];
  const isDots = text["model_type"] === "dots1" && types?.includes("sliding_attention");
  const firstSliding = types?.indexOf("sliding_attention");
  if (isDots) text["max_window_layers"] = firstSliding;
  // Some are released with their layer types; the other families say them by other keys, as far as those can.
  const every =
    linearEvery ?? ((text["sliding_window_pattern"] ?? text["global_attn_every_n_layers"]) as number | undefined);
  const isSaid = isDots
    ? types?.every((type, i) => (type === "sliding_attention") === i >= firstSliding!)
    : every === undefined || types?.every((type, i) => (type === "full_attention") === ((i + 1) % every === 0));
  if (isSaid && !["gpt_oss", "lfm2_moe"].includes(text["model_type"] as string)) delete text["layer_types"];
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
