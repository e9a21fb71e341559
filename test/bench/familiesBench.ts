import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { openCheckpoint } from "../../src/engine/checkpoint/open";
import { ModelExecutor } from "../../src/engine/execution/modelExecutor";
import { describeModel } from "../../src/engine/model/families";
import { flopsPerToken } from "../../src/engine/model/parameters";
import { elementCount } from "../../src/engine/tensor/dtype";
import type { RuntimeOptions } from "../../src/engine/runtime/session";
import { gemmRate } from "./gemmRate";
import { makeCheckpoint } from "./makeCheckpoint";
import { syntheticFamilies, type SyntheticFamily } from "./syntheticFamilies";
import type { SyntheticShape } from "./syntheticTensors";

/** A quarter of Qwen3-30B-A3B's experts at half its width: every family fits on a small disk, one after another. */
const shape: Partial<SyntheticShape> = {
  hiddenSize: 1024,
  numLayers: 2,
  numExperts: 32,
  numExpertsPerToken: 4,
  moeIntermediateSize: 512,
  sharedIntermediateSize: 512,
  vocabSize: 1024,
  numHeads: 16,
  numKeyValueHeads: 4,
  headDim: 64,
};
const sequenceLength = 512;
const sequences = 4;

const reference: SyntheticFamily = "qwen3_moe";

/** No family's forward should stay below this share of qwen3_moe's. */
const least = 0.5;

export interface FamilyShare {
  family: string;
  /** Useful floating-point operations a second over the machine's matrix-product rate around the run; median of rounds. */
  share: number;
}

/**
 * Every family's forward at equal sizes, from random bf16 weights on disk: share of the matrix-product rate, and that as
 * a share of qwen3_moe's. Rounds go over all families, so that a busy minute does not fall on one of them.
 */
export async function familiesBench(
  runtime: RuntimeOptions,
  { rounds, only = [] }: { rounds: number; only?: readonly string[] },
  print: (line: string) => void,
): Promise<FamilyShare[]> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "reroute-bench-"));
  const all = Object.keys(syntheticFamilies) as SyntheticFamily[];
  const unknown = only.filter((name) => !all.some((family) => family === name));
  if (unknown.length > 0) throw new Error(`bench families ${unknown.join(" ")}: choose of ${all.join(", ")}`);
  const names = all.filter((family) => only.length === 0 || family === reference || only.includes(family));
  const shares = new Map<string, number[]>(names.map((family) => [family, []]));
  try {
    const folderOf = (family: SyntheticFamily) => path.join(directory, family);
    const make = (family: SyntheticFamily) => makeCheckpoint({ directory: folderOf(family), family, shape });
    if (rounds > 1) for (const family of names) await make(family);
    for (let round = 0; round < rounds; round++) {
      for (const family of names) {
        if (rounds === 1) await make(family);
        const share = await measure(folderOf(family), runtime, directory);
        shares.get(family)!.push(share);
        if (rounds === 1) print(`  ${family}: ${percent(share)} of GEMM`);
        if (rounds === 1) await rm(folderOf(family), { recursive: true });
      }
      print(`  round ${round + 1} of ${rounds} done`);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  const results = names.map((family) => ({ family, share: median(shares.get(family)!) }));
  const ofReference = results.find(({ family }) => family === reference)!.share;
  for (const { family, share } of results) {
    const relative = share / ofReference;
    print(
      `  ${family.padEnd(18)} ${percent(share).padStart(5)} of GEMM, ${percent(relative).padStart(6)} of qwen3_moe${relative < least ? "  BELOW HALF" : ""}`,
    );
  }
  return results;
}

async function measure(folder: string, runtime: RuntimeOptions, scratchDirectory: string): Promise<number> {
  const checkpoint = await openCheckpoint(folder);
  const { description } = describeModel(checkpoint);
  const ids = Int32Array.from({ length: sequences * sequenceLength }, (_, i) => (i * 7919) % description.vocabSize);
  const executor = await ModelExecutor.open({
    checkpoint,
    description,
    sequenceLength,
    runtime,
    direction: "forward",
    scratchDirectory,
  });
  try {
    // The first pass builds the sessions' graphs and reads the weights into the page cache.
    (await executor.forward({ ids })).close();
    const before = await gemmRate(runtime, 2);
    const started = performance.now();
    (await executor.forward({ ids })).close();
    const seconds = (performance.now() - started) / 1e3;
    const rate = (before + (await gemmRate(runtime, 2))) / 2;
    const head = 2 * elementCount(description.head.weight.shape);
    return (ids.length * (flopsPerToken(description, sequenceLength) - head)) / seconds / rate;
  } finally {
    await executor.close();
  }
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`;
}
