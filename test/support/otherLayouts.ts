import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import {
  readSafetensorsFile,
  writeSafetensorsFile,
  type MemoryTensor,
} from "../../src/engine/checkpoint/safetensorsFile";
import { moeLayers } from "../../src/engine/model/moeLayers";
import type { OpenModel } from "../../src/engine/run/work";
import { float8E4M3Values } from "../../src/engine/tensor/float8";
import { decodeFloat8Blocks, decodeMxfp4 } from "./quantisedBlocks";
import { bytesOf, decodeFloats } from "../../src/engine/tensor/floatCodec";
import { createRandom } from "../../src/engine/tensor/random";
import { goldenCheckpoint } from "./goldens";
import type { PackedLayout } from "./packedLayouts";
import { openModel } from "./tinyModels";

/** A golden with experts stored one by one, as transformers holds them in memory: gate and up rows fused, down fused. */
export async function writeFused(family: string, to: string): Promise<OpenModel> {
  const from = await openModel(goldenCheckpoint(family));
  const { tensors } = await readSafetensorsFile(path.join(goldenCheckpoint(family), "model.safetensors"));
  const fused = new Map<string, MemoryTensor>(tensors);
  for (const { moe } of moeLayers(from.description)) {
    const { storage } = moe;
    if (storage.kind !== "per-expert") throw new Error(`${family} is fused already`);
    const gateUp: Uint8Array[] = [];
    const down: Uint8Array[] = [];
    for (const { gateUp: projections, downProj } of moe.experts) {
      if (projections.kind !== "separate") throw new Error(`${family} interleaves`);
      for (const { weight } of [projections.gateProj, projections.upProj])
        gateUp.push(tensors.get(weight.tensor)!.data);
      down.push(tensors.get(downProj.weight.tensor)!.data);
    }
    for (const name of tensors.keys()) if (name.startsWith(storage.prefix)) fused.delete(name);
    const [hidden, width] = moe.experts[0]!.downProj.weight.shape as [number, number];
    const add = (name: string, parts: Uint8Array[], shape: number[]) =>
      fused.set(`${storage.prefix}${name}`, {
        dtype: "BF16",
        shape: [moe.numExperts, ...shape],
        data: Buffer.concat(parts),
      });
    add("gate_up_proj", gateUp, [2 * width, hidden]);
    add("down_proj", down, [hidden, width]);
  }
  return write(to, goldenConfig(family), fused);
}

/**
 * The golden with every projection in F8_E4M3 with block scales (as DeepSeek-V3 is released), and the same numbers in
 * F32. Codes are the nearest to the golden's weights, scales the largest of a block over 448.
 */
export async function writeFloat8(
  family: string,
  to: string,
  block: { rows: number; columns: number },
): Promise<{ quantised: OpenModel; plain: OpenModel }> {
  const { tensors } = await readSafetensorsFile(path.join(goldenCheckpoint(family), "model.safetensors"));
  const quantised = new Map<string, MemoryTensor>();
  const plain = new Map<string, MemoryTensor>();
  for (const [name, tensor] of tensors) {
    const [rows, columns] = tensor.shape;
    if (!/_proj(_with_mqa)?\.weight$/.test(name) || rows === undefined || columns === undefined) {
      quantised.set(name, tensor);
      plain.set(name, tensor);
      continue;
    }
    const { codes, scales, scaleShape } = quantiseBlocks(decodeFloats(tensor.data, "BF16"), { rows, columns }, block);
    quantised.set(name, { dtype: "F8_E4M3", shape: tensor.shape, data: codes });
    quantised.set(`${name}_scale_inv`, { dtype: "F32", shape: scaleShape, data: scales });
    const values = decodeFloat8Blocks(codes, { rows, columns }, scales, block);
    plain.set(name, { dtype: "F32", shape: tensor.shape, data: values });
  }
  const config = goldenConfig(family);
  const quantization_config = {
    quant_method: "fp8",
    activation_scheme: "dynamic",
    weight_block_size: [block.rows, block.columns],
  };
  return {
    quantised: await write(path.join(to, "f8"), { ...config, quantization_config }, quantised),
    plain: await write(path.join(to, "f32"), config, plain),
  };
}

/** A gpt-oss golden with other experts: random MXFP4 codes as released, and the same numbers in F32 as [in, out]. */
export async function writeMxfp4(to: string): Promise<{ quantised: OpenModel; plain: OpenModel }> {
  const { tensors } = await readSafetensorsFile(path.join(goldenCheckpoint("gpt_oss"), "model.safetensors"));
  const config = { ...goldenConfig("gpt_oss"), intermediate_size: 64 };
  const [experts, hidden, width] = [8, 32, 64];
  const random = createRandom(11);
  const quantised = new Map<string, MemoryTensor>(tensors);
  const plain = new Map<string, MemoryTensor>(tensors);
  for (const name of tensors.keys()) {
    const prefix = /^(.*\.experts\.(?:gate_up|down)_proj)$/.exec(name)?.[1];
    if (prefix === undefined) continue;
    const [inputs, outputs] = prefix.endsWith("down_proj") ? [width, hidden] : [hidden, 2 * width];
    const groups = (experts * outputs * inputs) / 32;
    const codes = Uint8Array.from({ length: groups * 16 }, () => random.below(256));
    // Around 2^-6: weights like those of a trained model.
    const scales = Uint8Array.from({ length: groups }, () => 119 + random.below(4));
    const bias = Float32Array.from({ length: experts * outputs }, () => random.normal() * 0.1);
    const values = decodeMxfp4(codes, scales);
    const transposed = new Float32Array(values.length);
    for (let e = 0; e < experts; e++) {
      for (let o = 0; o < outputs; o++) {
        for (let i = 0; i < inputs; i++) {
          transposed[(e * inputs + i) * outputs + o] = values[(e * outputs + o) * inputs + i]!;
        }
      }
    }
    quantised.delete(name);
    quantised.set(`${name}_blocks`, { dtype: "U8", shape: [experts, outputs, inputs / 32, 16], data: codes });
    quantised.set(`${name}_scales`, { dtype: "U8", shape: [experts, outputs, inputs / 32], data: scales });
    plain.set(name, { dtype: "F32", shape: [experts, inputs, outputs], data: transposed });
    for (const both of [quantised, plain]) {
      both.set(`${name}_bias`, { dtype: "F32", shape: [experts, outputs], data: bias });
    }
  }
  const quantization_config = { quant_method: "mxfp4", modules_to_not_convert: ["model.layers.*.mlp.router"] };
  return {
    quantised: await write(path.join(to, "mxfp4"), { ...config, quantization_config }, quantised),
    plain: await write(path.join(to, "f32"), config, plain),
  };
}

function quantiseBlocks(
  weights: Float32Array,
  { rows, columns }: { rows: number; columns: number },
  block: { rows: number; columns: number },
): { codes: Uint8Array; scales: Float32Array; scaleShape: number[] } {
  const scaleShape = [Math.ceil(rows / block.rows), Math.ceil(columns / block.columns)];
  const place = (i: number) =>
    Math.floor(Math.floor(i / columns) / block.rows) * scaleShape[1]! + Math.floor((i % columns) / block.columns);
  const scales = new Float32Array(scaleShape[0]! * scaleShape[1]!);
  weights.forEach((w, i) => (scales[place(i)] = Math.max(scales[place(i)]!, Math.abs(w) / 448)));
  const codes = Uint8Array.from(weights, (w, i) => nearestCode(w / scales[place(i)]!));
  return { codes, scales, scaleShape };
}

function nearestCode(value: number): number {
  let best = 0;
  for (let code = 0; code < 256; code++) {
    // NaN codes compare false.
    if (Math.abs(float8E4M3Values[code]! - value) < Math.abs(float8E4M3Values[best]! - value)) best = code;
  }
  return best;
}

function goldenConfig(family: string): Record<string, unknown> {
  return JSON.parse(readFileSync(path.join(goldenCheckpoint(family), "config.json"), "utf8")) as Record<
    string,
    unknown
  >;
}

async function write(to: string, config: object, tensors: ReadonlyMap<string, MemoryTensor>): Promise<OpenModel> {
  mkdirSync(to, { recursive: true });
  writeFileSync(path.join(to, "config.json"), JSON.stringify(config));
  const stored = [...tensors].map(([name, tensor]) => [name, { ...tensor, data: bytesOf(tensor.data) }] as const);
  await writeSafetensorsFile(path.join(to, "model.safetensors"), new Map(stored));
  return openModel(to);
}

/** A golden with every projection replaced by random codes and scales in a packed layout, and the same numbers in F32. */
export async function writePacked(
  family: string,
  to: string,
  layout: PackedLayout,
): Promise<{ quantised: OpenModel; plain: OpenModel }> {
  const { tensors } = await readSafetensorsFile(path.join(goldenCheckpoint(family), "model.safetensors"));
  const quantised = new Map<string, MemoryTensor>();
  const plain = new Map<string, MemoryTensor>();
  const random = createRandom(21);
  let quantization_config = {};
  for (const [name, tensor] of tensors) {
    const [outputs, inputs] = tensor.shape;
    const module = /^(.*(?:_proj|\.w[123]))\.weight$/.exec(name)?.[1];
    if (module === undefined || inputs === undefined) {
      quantised.set(name, tensor);
      plain.set(name, tensor);
      continue;
    }
    const made = layout(outputs!, inputs, random);
    quantization_config = made.quantisation;
    for (const [ending, stored] of Object.entries(made.tensors)) quantised.set(`${module}.${ending}`, stored);
    plain.set(name, { dtype: "F32", shape: tensor.shape, data: made.values });
  }
  const config = goldenConfig(family);
  return {
    quantised: await write(path.join(to, "packed"), { ...config, quantization_config }, quantised),
    plain: await write(path.join(to, "f32"), config, plain),
  };
}
