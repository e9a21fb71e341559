import { createHash } from "node:crypto";
import path from "node:path";
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../../src/engine/checkpoint/checkpoint";
import { fingerprintCheckpoint, tensorDigests } from "../../../src/engine/checkpoint/fingerprint";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { readTensorBytes } from "../../../src/engine/checkpoint/read";
import { copyTensor, tensorFromBytes, type TensorSource } from "../../../src/engine/checkpoint/tensorSource";
import { writeCheckpoint } from "../../../src/engine/checkpoint/write";
import { makeCheckpoint } from "../../bench/makeCheckpoint";
import { temporaryFolder } from "../../support/temporaryFolder";
import { expectError } from "./fixtures";

const teacherPath = "test/fixtures/goldens/mixtral/checkpoint";
const routerName = "model.layers.1.block_sparse_moe.gate.weight";

async function rewritten(
  checkpoint: Checkpoint,
  change: { config?: object; map?: (source: TensorSource) => TensorSource; maxShardBytes?: number },
): Promise<Checkpoint> {
  const directory = path.join(temporaryFolder(), "out");
  const tensors = [...checkpoint.tensors.values()].map((entry) => (change.map ?? ((x) => x))(copyTensor(entry)));
  await writeCheckpoint({
    directory,
    tensors,
    config: { ...checkpoint.config, ...change.config },
    maxShardBytes: change.maxShardBytes ?? 1e9,
  });
  return openCheckpoint(directory);
}

/** The same tensor with one bit of one byte changed. */
function flipped(checkpoint: Checkpoint, name: string, byte: number) {
  return (source: TensorSource): TensorSource => {
    if (source.name !== name) return source;
    return tensorFromBytes(source, async () => {
      const bytes = await readTensorBytes(checkpoint.tensors.get(name)!);
      bytes[byte] = bytes[byte]! ^ 1;
      return bytes;
    });
  };
}

describe("fingerprintCheckpoint", () => {
  it("depends on content and not on sharding or the order of config keys", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const original = await fingerprintCheckpoint(teacher);
    expect(original).toMatch(/^[0-9a-f]{64}$/);
    const same = [
      await openCheckpoint(teacherPath),
      await rewritten(teacher, { maxShardBytes: 10_000 }),
      { ...teacher, config: Object.fromEntries(Object.entries(teacher.config).reverse()) },
    ];
    for (const checkpoint of same) expect(await fingerprintCheckpoint(checkpoint)).toBe(original);
    const different = [
      await rewritten(teacher, { config: { rope_theta: 1 } }),
      await rewritten(teacher, { map: (s) => (s.name === routerName ? { ...s, name: `${s.name}2` } : s) }),
      await rewritten(teacher, { map: (s) => (s.name === routerName ? { ...s, shape: [...s.shape].reverse() } : s) }),
      await rewritten(teacher, { map: (s) => (s.name === routerName ? { ...s, dtype: "F16" } : s) }),
      await rewritten(teacher, { map: flipped(teacher, routerName, 257) }),
      await rewritten(teacher, { map: flipped(teacher, "model.embed_tokens.weight", 10_239) }),
    ];
    const found = await Promise.all(different.map((checkpoint) => fingerprintCheckpoint(checkpoint)));
    expect(new Set([...found, original]).size).toBe(different.length + 1);
  });

  it("stops when cancelled", async () => {
    const teacher = await openCheckpoint(teacherPath);
    await expectError(() => fingerprintCheckpoint(teacher, AbortSignal.abort()), "cancelled");
  });
});

describe("tensorDigests", () => {
  it("are SHA-256 of every tensor, and tell which one changed", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const before = await tensorDigests(teacher);
    for (const [name, entry] of teacher.tensors) {
      expect(before.get(name)).toBe(
        createHash("sha256")
          .update(await readTensorBytes(entry))
          .digest("hex"),
      );
    }
    const after = await tensorDigests(
      await rewritten(teacher, { map: flipped(teacher, routerName, 3), maxShardBytes: 9000 }),
    );
    expect([...before.keys()].filter((name) => before.get(name) !== after.get(name))).toEqual([routerName]);
    expect([...(await tensorDigests(teacher, [routerName])).keys()]).toEqual([routerName]);
  });
});

describe("makeCheckpoint", () => {
  const shape = {
    hiddenSize: 32,
    numLayers: 2,
    numExperts: 4,
    numExpertsPerToken: 2,
    moeIntermediateSize: 24,
    sharedIntermediateSize: 28,
    vocabSize: 160,
    numHeads: 4,
    numKeyValueHeads: 2,
    headDim: 16,
  };
  it.each(["qwen3_moe", "mixtral", "olmoe", "qwen2_moe"] as const)(
    "%s has the tensor names that transformers writes",
    async (family) => {
      const directory = path.join(temporaryFolder(), "out");
      await makeCheckpoint({ directory, family, shape });
      const made = await openCheckpoint(directory);
      const golden = await openCheckpoint(`test/fixtures/goldens/${family}/checkpoint`);
      const pattern = (c: Checkpoint) =>
        [
          ...new Set([...c.tensors.values()].map((t) => `${t.name.replace(/\d+/g, "N")} ${t.dtype} ${t.shape.length}`)),
        ].sort();
      expect(pattern(made)).toEqual(pattern(golden));
      expect(made.config["model_type"]).toBe(family);
    },
  );

  it("gives the same bytes for the same seed, others for another", async () => {
    const make = async (seed: number, weights: "random" | "low-rank") => {
      const directory = path.join(temporaryFolder(), "out");
      await makeCheckpoint({ directory, family: "qwen3_moe", shape, seed, weights });
      return fingerprintCheckpoint(await openCheckpoint(directory));
    };
    expect(await make(1, "random")).toBe(await make(1, "random"));
    expect(await make(1, "low-rank")).toBe(await make(1, "low-rank"));
    expect(new Set([await make(1, "random"), await make(2, "random"), await make(1, "low-rank")]).size).toBe(3);
  });
});
