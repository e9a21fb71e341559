import { writeFile } from "node:fs/promises";
import path from "node:path";
import { compressOptions } from "../../../src/protocol/recipe";
import { writeCheckpoint } from "../../../src/engine/checkpoint/write";
import { compressedConfig } from "../../../src/engine/compression/compressedConfig";
import { makePruningPlan } from "../../../src/engine/compression/pruning/pruningPlan";
import { pruneTensors } from "../../../src/engine/compression/pruning/pruneTensors";
import { buildSequences } from "../../../src/engine/data/buildSequences";
import type { TokenSequences } from "../../../src/engine/data/sequences";
import { loadTokenizer } from "../../../src/engine/data/tokenizer";
import { profileCheckpoint } from "../../../src/engine/execution/profile";
import { RoutingStatistics } from "../../../src/engine/routing/collect";
import type { RoutingStatisticsData } from "../../../src/engine/routing/layerStatistics";
import { openModel } from "../../../src/engine/run/modelCache";
import type { OpenModel } from "../../../src/engine/run/work";
import type { RuntimeOptions } from "../../../src/engine/runtime/session";
import { bytesOf } from "../../../src/engine/tensor/floatCodec";
import { createRandom } from "../../../src/engine/tensor/random";
import { makeCheckpoint } from "../makeCheckpoint";
import type { SyntheticShape } from "../syntheticTensors";

/** Two checkpoints and a text that both sides read from disk. */
export interface Pair {
  teacher: OpenModel;
  student: OpenModel;
  sequences: TokenSequences;
  /** Of `sequences`, int32. */
  ids: string;
}

/** The sample, and the student that keeps 12 of 32 experts by REAP. */
export async function samplePair(directory: string, runtime: RuntimeOptions): Promise<Pair> {
  const sample = path.resolve("media/sample");
  const teacher = await openModel(path.join(sample, "checkpoint"));
  const sequences = await buildSequences({
    ...{ path: path.join(sample, "calibration.jsonl"), tokenizer: await loadTokenizer(teacher.checkpoint.directory) },
    ...{ vocabSize: teacher.description.vocabSize, sequences: 256, sequenceLength: 256, packing: "packed" },
  });
  const about = { checkpoint: "", fingerprint: teacher.fingerprint, sequences, renormalises: true };
  const observer = new RoutingStatistics(about);
  await profileCheckpoint({
    ...teacher,
    sequences,
    observer,
    collectOutputs: true,
    runtime,
    scratchDirectory: directory,
  });
  const student = await prunedTo(teacher, path.join(directory, "sample-student"), 0.375, observer.result());
  return { teacher, student, sequences, ids: await writeIds(directory, "sample", sequences) };
}

/** Random weights in the shape given, and a student that keeps half of its experts. */
export async function syntheticPair(
  directory: string,
  shape: Partial<SyntheticShape>,
  sequences: { count: number; length: number },
): Promise<Pair> {
  const folder = path.join(directory, `synthetic-${shape.vocabSize}`);
  await makeCheckpoint({ directory: folder, family: "qwen3_moe", shape });
  const teacher = await openModel(folder);
  const student = await prunedTo(teacher, `${folder}-student`, 0.5, null);
  const text = randomText(teacher.description.vocabSize, sequences);
  return { teacher, student, sequences: text, ids: await writeIds(directory, `${shape.vocabSize}`, text) };
}

async function prunedTo(
  teacher: OpenModel,
  directory: string,
  keep: number,
  statistics: RoutingStatisticsData | null,
): Promise<OpenModel> {
  const { checkpoint, family, description } = teacher;
  const options = compressOptions.parse({ method: statistics === null ? "random" : "reap", keep });
  const plan = makePruningPlan({ ...teacher, options, seed: 1, statistics, weightScores: null });
  await writeCheckpoint({
    directory,
    tensors: pruneTensors(checkpoint, family, description, plan),
    config: compressedConfig(checkpoint, family, description, plan),
    maxShardBytes: 4e9,
  });
  return openModel(directory);
}

function randomText(vocabSize: number, { count, length }: { count: number; length: number }): TokenSequences {
  const random = createRandom(5);
  return {
    ids: Int32Array.from({ length: count * length }, () => random.below(vocabSize)),
    ...{ numSequences: count, sequenceLength: length, lengths: new Int32Array(count).fill(length) },
    ...{ domainIds: new Uint8Array(count * length), domainNames: ["text"], sourceSha256: "" },
  };
}

async function writeIds(directory: string, name: string, { ids }: TokenSequences): Promise<string> {
  const file = path.join(directory, `${name}.ids`);
  await writeFile(file, bytesOf(ids));
  return file;
}
