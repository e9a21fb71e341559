import { copyFileSync, mkdirSync } from "node:fs";
import path from "node:path";
import { fingerprintCheckpoint } from "../../src/engine/checkpoint/fingerprint";
import { openCheckpoint } from "../../src/engine/checkpoint/open";
import {
  readSafetensorsFile,
  writeSafetensorsFile,
  type MemoryTensor,
} from "../../src/engine/checkpoint/safetensorsFile";
import { writeCompressedCheckpoint } from "../../src/engine/compression/writeCompressed";
import type { TokenSequences } from "../../src/engine/data/sequences";
import { describeModel } from "../../src/engine/model/families/index";
import type { OpenModel } from "../../src/engine/run/work";
import { decodeFloats, encodeFloats } from "../../src/engine/tensor/floatCodec";
import { createRandom } from "../../src/engine/tensor/random";
import { goldenCase, readGoldenFile, type GoldenCase } from "./goldens";

export async function openModel(directory: string): Promise<OpenModel> {
  const checkpoint = await openCheckpoint(directory);
  const { family, description } = describeModel(checkpoint);
  return { checkpoint, family, description, fingerprint: await fingerprintCheckpoint(checkpoint) };
}

/** Writes the student of a family's golden: only its `kept` experts. */
export function writeGoldenStudent(family: string, directory: string): Promise<OpenModel> {
  return writeStudentOf(goldenCase(family), directory);
}

/** The same of any golden or variant. */
export async function writeStudentOf(from: GoldenCase, directory: string): Promise<OpenModel> {
  const golden = await readGoldenFile(from.golden);
  const layers = [...golden.keys()].filter((name) => name.startsWith("kept.")).map((name) => name.split(".")[1]!);
  await writeCompressedCheckpoint({
    ...(await openModel(from.checkpoint)),
    plan: {
      schemaVersion: 1,
      paradigm: "pruning",
      method: "manual",
      layers: Object.fromEntries(layers.map((layer) => [layer, { kept: golden.get(`kept.${layer}`)!.values }])),
    },
    directory,
    provenance: { reroute: "0.0.0", recipe: null, seed: 42, versions: {}, metrics: {} },
  });
  return openModel(directory);
}

/** Copies a checkpoint of one shard with the numbers of one tensor changed. */
export async function copyWithChange(
  from: string,
  to: string,
  tensor: string,
  change: (values: Float32Array) => void,
): Promise<OpenModel> {
  mkdirSync(to, { recursive: true });
  copyFileSync(path.join(from, "config.json"), path.join(to, "config.json"));
  const { tensors } = await readSafetensorsFile(path.join(from, "model.safetensors"));
  const changed = new Map<string, MemoryTensor>(tensors);
  const { dtype, shape, data } = tensors.get(tensor)!;
  const values = decodeFloats(data, dtype);
  change(values);
  changed.set(tensor, { dtype, shape, data: encodeFloats(values, dtype as "BF16") });
  await writeSafetensorsFile(path.join(to, "model.safetensors"), changed);
  return openModel(to);
}

/** Random token ids; `lengths` below the sequence length leave padding behind. */
export function randomSequences(
  seed: number,
  numSequences: number,
  sequenceLength: number,
  options: { vocabSize?: number; lengths?: readonly number[]; domains?: readonly string[] } = {},
): TokenSequences {
  const random = createRandom(seed);
  const { vocabSize = 160, lengths, domains = ["text"] } = options;
  return {
    ids: Int32Array.from({ length: numSequences * sequenceLength }, () => random.below(vocabSize)),
    numSequences,
    sequenceLength,
    lengths: Int32Array.from({ length: numSequences }, (_, s) => lengths?.[s] ?? sequenceLength),
    domainIds: Uint8Array.from({ length: numSequences * sequenceLength }, () => random.below(domains.length)),
    domainNames: [...domains],
    sourceSha256: "",
  };
}

/** The sequences of a family's golden. */
export function goldenSequences(family: string): Promise<TokenSequences> {
  return sequencesOf(goldenCase(family));
}

export async function sequencesOf({ golden }: GoldenCase): Promise<TokenSequences> {
  const { shape, values } = (await readGoldenFile(golden)).get("input_ids")!;
  const [numSequences, sequenceLength] = shape as [number, number];
  return { ...randomSequences(0, numSequences, sequenceLength), ids: Int32Array.from(values) };
}
