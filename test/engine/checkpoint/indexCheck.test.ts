import { expect, it } from "vitest";
import type { Shard, TensorEntry } from "../../../src/engine/checkpoint/checkpoint";
import { checkIndex } from "../../../src/engine/checkpoint/indexCheck";
import type { ShardIndex } from "../../../src/engine/checkpoint/indexFile";
import { createRandom, type Random } from "../../../src/engine/tensor/random";
import { RerouteError } from "../../../src/protocol/errors";

type Line = [name: string, shard: string];

/** Three shards of a few tensors, of one dtype or several, sorted by name in each dtype as libraries write them, or not. */
function randomShards(random: Random): TensorEntry[][] {
  const isSorted = random.below(3) > 0;
  return ["a", "b", "c"].map((name, s) => {
    const shard: Shard = { name: `${name}.safetensors`, realPath: "", sizeBytes: 0, modifiedMs: 0, metadata: {} };
    const dtypes = (["F32", "BF16", "U8"] as const).slice(0, 1 + random.below(3));
    const entries = Array.from({ length: random.below(6) }, (_, i): TensorEntry => {
      const dtype = dtypes[random.below(dtypes.length)]!;
      return { name: `layers.${i}.${s}`, dtype, shape: [1], shard, byteOffset: 0, byteLength: 1 };
    });
    if (isSorted) entries.sort((x, y) => dtypes.indexOf(x.dtype as never) - dtypes.indexOf(y.dtype as never));
    return entries;
  });
}

function indexOf(lines: readonly Line[]): ShardIndex {
  const shardNames = [...new Set(lines.map(([, shard]) => shard))];
  return {
    names: lines.map(([name]) => name),
    shardOf: lines.map(([, shard]) => shardNames.indexOf(shard)),
    shardNames,
  };
}

/** What is wrong with an index, told as plainly as possible. */
function isRight(lines: readonly Line[], tensors: ReadonlyMap<string, TensorEntry>): boolean {
  const isUnique = new Set(lines.map(([name]) => name)).size === lines.length;
  return isUnique && lines.every(([name, shard]) => tensors.get(name)?.shard.name === shard);
}

const changes: ((lines: Line[], random: Random) => void)[] = [
  () => undefined,
  // The index forgets tensors.
  (lines, random) => void lines.splice(random.below(lines.length), 1),
  (lines, random) => void lines.push(lines[random.below(lines.length)]!),
  (lines, random) => void lines.splice(random.below(lines.length), 0, lines[random.below(lines.length)]!),
  (lines) => void lines.push(["unknown", "a.safetensors"]),
  (lines, random) => void (lines[random.below(lines.length)]![1] = "c.safetensors"),
  (lines) => void lines.reverse(),
  (lines, random) => void lines.sort(() => random.below(2) - 0.5),
  (lines, random) => void (lines[random.below(lines.length)]![0] = lines[random.below(lines.length)]![0]),
  (lines) => void lines.sort(([x], [y]) => (x < y ? -1 : 1)),
];

it("says of any index what a plain search says: every tensor once, in the shard it is in", () => {
  const outcomes = { right: 0, wrong: 0 };
  for (let seed = 0; seed < 4000; seed++) {
    const random = createRandom(seed);
    const shards = randomShards(random);
    const tensors = new Map(shards.flat().map((entry) => [entry.name, entry]));
    const lines = shards.flat().map(({ name, shard }): Line => [name, shard.name]);
    if (lines.length === 0) continue;
    changes[seed % changes.length]!(lines, random);
    const check = () => checkIndex(indexOf(lines), shards, tensors, "index.json");
    if (isRight(lines, tensors)) {
      outcomes.right++;
      expect(check, `seed ${seed}`).not.toThrow();
    } else {
      outcomes.wrong++;
      expect(check, `seed ${seed}`).toThrow(RerouteError);
    }
  }
  expect(outcomes.right).toBeGreaterThan(1000);
  expect(outcomes.wrong).toBeGreaterThan(1000);
});
