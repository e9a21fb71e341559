import { mkdirSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import type { Checkpoint } from "../../../src/engine/checkpoint/checkpoint";
import { copyTensor, tensorFromBytes } from "../../../src/engine/checkpoint/tensorSource";
import { writeCheckpoint } from "../../../src/engine/checkpoint/write";
import { applyPlan } from "../../../src/engine/compression/methods";
import type { MethodContext } from "../../../src/engine/compression/methodContext";
import { readExpert, storedValues, type ExpertMatrices } from "../../../src/engine/compression/layer/expertMatrices";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { writeCompressedCheckpoint } from "../../../src/engine/compression/writeCompressed";
import type { TokenSequences } from "../../../src/engine/data/sequences";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { profileCheckpoint } from "../../../src/engine/execution/profile";
import { describeModel } from "../../../src/engine/model/families";
import { authorsRenormalise, RoutingStatistics } from "../../../src/engine/routing/collect";
import { createRandom } from "../../../src/engine/tensor/random";
import { encodeFloats, type WritableFloat } from "../../../src/engine/tensor/floatCodec";
import type { CompressionPlan } from "../../../src/protocol/plan";
import { compressOptions, type CompressOptions } from "../../../src/protocol/recipe";
import { temporaryFolder } from "../../support/temporaryFolder";

export const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;
export const goldens = path.join(__dirname, "../../fixtures/goldens");

/** A folder for one test file, removed after it, and names of new folders inside it. */
export function scratch(): { folder: string; fresh: () => string } {
  const folder = temporaryFolder();
  let next = 0;
  return { folder, fresh: () => path.join(folder, `out-${next++}`) };
}

export async function openModel(directory: string) {
  const checkpoint = await openCheckpoint(directory);
  return { checkpoint, ...describeModel(checkpoint), fingerprint: "f" };
}
export type OpenModel = Awaited<ReturnType<typeof openModel>>;

/** Random token sequences of a model. */
export function randomSequences(
  { description }: OpenModel,
  numSequences = 4,
  sequenceLength = 32,
  seed = 1,
): TokenSequences {
  const random = createRandom(seed);
  const tokens = numSequences * sequenceLength;
  return {
    ids: Int32Array.from({ length: tokens }, () => random.below(description.vocabSize)),
    numSequences,
    sequenceLength,
    lengths: new Int32Array(numSequences).fill(sequenceLength),
    domainIds: new Uint8Array(tokens),
    domainNames: ["all"],
    sourceSha256: "",
  };
}

const computed = new Map<string, unknown>();

/**
 * What a model as its files are now, and `inputs`, decide: computed by the first test that asks, since compiling a model's graphs
 * takes longer than all else here. The files of this process share it.
 */
function once<T>(what: string, { checkpoint }: OpenModel, inputs: string, compute: () => Promise<T>): Promise<T> {
  const files = readdirSync(checkpoint.directory).map((name) => {
    const { ino, size, mtimeNs } = statSync(path.join(checkpoint.directory, name), { bigint: true });
    return `${name} ${ino} ${size} ${mtimeNs}`;
  });
  const key = [what, checkpoint.directory, ...files.sort(), inputs].join("\n");
  if (!computed.has(key)) computed.set(key, compute());
  return computed.get(key) as Promise<T>;
}

/** Everything a method gets, with a profile of the same sequences. */
export async function makeContext(
  model: OpenModel,
  stateDirectory: string,
  options: Partial<CompressOptions>,
  sequences: TokenSequences | null = randomSequences(model),
): Promise<MethodContext> {
  mkdirSync(stateDirectory, { recursive: true });
  const inputs = JSON.stringify(
    sequences && { ...sequences, ids: [...sequences.ids], domainIds: [...sequences.domainIds] },
  );
  const statistics =
    sequences && (await once("profile", model, inputs, () => profile(model, sequences, stateDirectory)));
  return {
    ...model,
    options: { ...compressOptions.parse({}), ...options },
    seed: 42,
    statistics,
    sequences,
    runtime,
    stateDirectory,
  };
}

async function profile(model: OpenModel, sequences: TokenSequences, scratchDirectory: string) {
  const observer = new RoutingStatistics({
    checkpoint: model.checkpoint.directory,
    fingerprint: "f",
    sequences,
    renormalises: authorsRenormalise(model.checkpoint.config),
  });
  await profileCheckpoint({ ...model, sequences, observer, collectOutputs: true, runtime, scratchDirectory });
  return observer.result();
}

/** Applies a plan and opens what was written. */
export async function compress(context: MethodContext, plan: CompressionPlan, directory: string): Promise<OpenModel> {
  const layers = await applyPlan(context, plan);
  await writeCompressedCheckpoint({
    ...context,
    plan,
    directory,
    ...(layers === null ? {} : { layers }),
    provenance: { reroute: "0", recipe: null, seed: 42, versions: {}, metrics: {} },
  });
  return openModel(directory);
}

/** Logits of a few random tokens. */
export function logitsOf(model: OpenModel, scratchDirectory: string): Promise<Float32Array> {
  return once("logits", model, "", () => forward(model, scratchDirectory));
}

async function forward({ checkpoint, description }: OpenModel, scratchDirectory: string): Promise<Float32Array> {
  const random = createRandom(3);
  const results = await runForwardProbe({
    model: { checkpoint, description },
    teacher: null,
    inputIds: Int32Array.from({ length: 24 }, () => random.below(description.vocabSize)),
    batch: 2,
    positions: 12,
    runtime,
    scratchDirectory,
  });
  return results.get("logits")!.data as Float32Array;
}

/** The checkpoint with some experts replaced: `change` gives new weights for an expert, or null to keep it. */
export async function withExperts(
  { checkpoint, description }: OpenModel,
  directory: string,
  change: (
    layer: number,
    expert: number,
    read: (e: number) => Promise<ExpertMatrices>,
  ) => Promise<ExpertMatrices | null>,
): Promise<OpenModel> {
  const replaced = new Map<string, { offset: number; values: Float32Array }[]>();
  for (const { layer, moe } of moeLayers(description)) {
    for (let e = 0; e < moe.numExperts; e++) {
      const made = await change(layer, e, (other) => readExpert(checkpoint, moe.experts[other]!, "x"));
      if (made === null) continue;
      for (const { view, values } of storedValues(moe.experts[e]!, made)) {
        const known = replaced.get(view.tensor) ?? [];
        known.push({ offset: view.offset, values: values() });
        replaced.set(view.tensor, known);
      }
    }
  }
  return rewrite(checkpoint, directory, replaced);
}

/** The checkpoint with some stored values replaced. */
export async function rewrite(
  checkpoint: Checkpoint,
  directory: string,
  replaced: ReadonlyMap<string, { offset: number; values: Float32Array }[]>,
): Promise<OpenModel> {
  const { readFloat32 } = await import("../../../src/engine/checkpoint/read");
  const tensors = [];
  for (const entry of checkpoint.tensors.values()) {
    const slices = replaced.get(entry.name);
    if (!slices) {
      tensors.push(copyTensor(entry));
      continue;
    }
    const values = await readFloat32(entry);
    for (const { offset, values: part } of slices) values.set(part, offset);
    tensors.push(tensorFromBytes(entry, () => encodeFloats(values, entry.dtype as WritableFloat)));
  }
  await writeCheckpoint({ directory, tensors, config: checkpoint.config });
  return openModel(directory);
}

/** Largest difference as a share of the largest magnitude. */
export function difference(actual: Float32Array, expected: Float32Array): number {
  let worst = actual.length === expected.length ? 0 : Infinity;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    worst = Math.max(worst, Math.abs(actual[i]! - expected[i]!));
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return worst / largest;
}

/** Mean over all positions but the last of each sequence of sum_v min(p, q), from logits [sequences * length, V]. */
export function meanOverlap(a: Float32Array, b: Float32Array, numSequences: number, length: number): number {
  const V = a.length / (numSequences * length);
  const softmax = (row: Float32Array) => {
    const most = Math.max(...row);
    const e = Array.from(row, (value) => Math.exp(value - most));
    const sum = e.reduce((total, value) => total + value, 0);
    return e.map((value) => value / sum);
  };
  let sum = 0;
  for (let t = 0; t < numSequences * length; t++) {
    if (t % length === length - 1) continue;
    const [p, q] = [a, b].map((all) => softmax(all.subarray(t * V, (t + 1) * V)));
    sum += p!.reduce((total, value, v) => total + Math.min(value, q![v]!), 0);
  }
  return sum / (numSequences * (length - 1));
}
