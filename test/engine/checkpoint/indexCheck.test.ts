import { expect, it } from "vitest";
import type { Shard, TensorEntry } from "../../../src/engine/checkpoint/checkpoint";
import { placeTensors } from "../../../src/engine/checkpoint/indexCheck";
import type { ShardIndex } from "../../../src/engine/checkpoint/indexFile";
import { createRandom, type Random } from "../../../src/engine/tensor/random";
import { RerouteError } from "../../../src/protocol/errors";

type Line = [name: string, shard: string];

/**
 * Three shards of a few tensors, of one dtype or several, sorted by name in each dtype as libraries write them, or not; at
 * times the second repeats a tensor of the first.
 */
function randomShards(random: Random): TensorEntry[][] {
  const isSorted = random.below(3) > 0;
  const repeats = random.below(4) === 0;
  return ["a", "b", "c"].map((name, s) => {
    const shard: Shard = { name: `${name}.safetensors`, realPath: "", sizeBytes: 0, modifiedMs: 0, metadata: {} };
    const dtypes = (["F32", "BF16", "U8"] as const).slice(0, 1 + random.below(3));
    const entries = Array.from({ length: random.below(6) }, (_, i): TensorEntry => {
      const dtype = dtypes[random.below(dtypes.length)]!;
      return {
        name: `layers.${i}.${repeats && s === 1 ? 0 : s}`,
        dtype,
        shape: [1],
        shard,
        byteOffset: 0,
        byteLength: 1,
      };
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

/** Where each tensor is read from, told as plainly as possible; null where the index names a tensor twice. */
function plainly(lines: readonly Line[], shards: TensorEntry[][]): Map<string, string> | null {
  if (new Set(lines.map(([name]) => name)).size !== lines.length) return null;
  const entries = shards.flat();
  return new Map(
    entries.map(({ name }) => {
      const holders = entries.filter((entry) => entry.name === name).map(({ shard }) => shard.name);
      const named = lines.find(([line]) => line === name)?.[1];
      return [name, named !== undefined && holders.includes(named) ? named : holders.at(-1)!];
    }),
  );
}

/** Whether there is something to say: an entry that is not what the shards hold, or a tensor in two of them. */
function needsNote(lines: readonly Line[], shards: TensorEntry[][]): boolean {
  const entries = shards.flat();
  const holds = (name: string, shard: string) => entries.some((e) => e.name === name && e.shard.name === shard);
  return new Set(entries.map(({ name }) => name)).size < entries.length || lines.some((line) => !holds(...line));
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

it("reads each tensor from where a plain search finds it, and says what index and shards disagree about", () => {
  const outcomes = { plain: 0, noted: 0, refused: 0 };
  for (let seed = 0; seed < 4000; seed++) {
    const random = createRandom(seed);
    const shards = randomShards(random);
    const lines = [...new Map(shards.flat().map(({ name, shard }): Line => [name, shard.name]))];
    if (lines.length === 0) continue;
    changes[seed % changes.length]!(lines, random);
    const expected = plainly(lines, shards);
    const place = () => placeTensors(indexOf(lines), shards, "index.json");
    if (expected === null) {
      outcomes.refused++;
      expect(place, `seed ${seed}`).toThrow(RerouteError);
      continue;
    }
    const { tensors, notes } = place();
    expect(new Map([...tensors].map(([name, { shard }]) => [name, shard.name])), `seed ${seed}`).toEqual(expected);
    expect(notes.length > 0, `seed ${seed}`).toBe(needsNote(lines, shards));
    outcomes[notes.length > 0 ? "noted" : "plain"]++;
  }
  expect(outcomes.plain).toBeGreaterThan(1000);
  expect(outcomes.noted).toBeGreaterThan(1000);
  expect(outcomes.refused).toBeGreaterThan(500);
});
