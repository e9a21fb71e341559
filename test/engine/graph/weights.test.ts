import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import type { Checkpoint, TensorEntry } from "../../../src/engine/checkpoint/checkpoint";
import { BlockWeights } from "../../../src/engine/graph/blocks/weights";
import { GraphBuilder } from "../../../src/engine/graph/builder";
import type { WeightView } from "../../../src/engine/model/description";
import { BlockSession } from "../../../src/engine/runtime/session";
import { byteLengthOf, elementCount, type DType } from "../../../src/engine/tensor/dtype";
import { decodeFloat8Blocks, decodeMxfp4 } from "../../support/quantisedBlocks";
import { decodeFloats, encodeFloats } from "../../../src/engine/tensor/floatCodec";
import { createRandom } from "../../../src/engine/tensor/random";
import { temporaryFolder } from "../../support/temporaryFolder";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;

/** A checkpoint of raw tensors that begin right after `gap` bytes, so that they lie on odd addresses. */
function shardOf(
  gap: number,
  tensors: Record<string, { dtype: DType; shape: number[]; bytes: Uint8Array }>,
): Checkpoint {
  const directory = temporaryFolder();
  const realPath = path.join(directory, "model.safetensors");
  const shard = { name: "model.safetensors", realPath, sizeBytes: 0, modifiedMs: 0, metadata: {} };
  const entries = new Map<string, TensorEntry>();
  const parts: Uint8Array[] = [new Uint8Array(gap)];
  let byteOffset = gap;
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    expect(bytes.byteLength).toBe(byteLengthOf(dtype, shape));
    entries.set(name, { name, dtype, shape, shard, byteOffset, byteLength: bytes.byteLength });
    parts.push(bytes);
    byteOffset += bytes.byteLength;
  }
  writeFileSync(realPath, Buffer.concat(parts));
  return { directory, config: {}, shards: [{ ...shard, sizeBytes: byteOffset }], tensors: entries };
}

/** The view's numbers as a graph sees them. */
async function read(checkpoint: Checkpoint, view: WeightView, keepFloat32Weights: boolean): Promise<Float32Array> {
  const builder = new GraphBuilder();
  const value = new BlockWeights(builder, checkpoint).float(view);
  const one = builder.input("one", [1]);
  // A copy of an initialiser alone would be folded away; the product with 1 changes no bit.
  const session = await BlockSession.create(builder.build({ y: builder.mul(value, one) }), {
    runtime,
    keepFloat32Weights,
  });
  try {
    const { y } = await session.run({ one: { type: "float32", shape: [1], data: Float32Array.of(1) } });
    return y!.data as Float32Array;
  } finally {
    await session.release();
  }
}

function codes(count: number, seed: number, below = 256): Uint8Array {
  const random = createRandom(seed);
  return Uint8Array.from({ length: count }, () => random.below(below));
}

describe.each([0, 1, 3, 8, 4093])("tensors that begin %i bytes into their shard", (gap) => {
  const random = createRandom(gap);
  const numbers = Float32Array.from({ length: 7 * 12 }, () => random.normal());
  test.each(["F32", "F16", "BF16"] as const)("%s: all of it, and one expert's slice", async (dtype) => {
    const bytes = encodeFloats(numbers, dtype);
    const before = { dtype: "U8" as const, shape: [5], bytes: new Uint8Array(5) };
    const checkpoint = shardOf(gap, { before, w: { dtype, shape: [7, 12], bytes } });
    const expected = decodeFloats(bytes, dtype);
    for (const keep of [false, true]) {
      expect(await read(checkpoint, { tensor: "w", offset: 0, shape: [7, 12], dtype }, keep)).toEqual(expected);
      const slice: WeightView = { tensor: "w", offset: 3 * 12, shape: [2, 12], dtype };
      expect(await read(checkpoint, slice, keep)).toEqual(expected.subarray(36, 60));
    }
  });
});

describe("F8_E4M3 with block scales", () => {
  const rows: [matrix: [number, number], block: [number, number], scales: "F32" | "BF16"][] = [
    [[16, 16], [16, 16], "F32"],
    [[16, 16], [8, 4], "F32"],
    [[10, 23], [4, 8], "F32"],
    [[7, 5], [128, 128], "F32"],
    [[33, 1], [32, 3], "BF16"],
    [[1, 130], [128, 128], "F32"],
  ];
  test.each(rows)(
    "matrix %j in blocks %j, %s scales",
    async ([height, width], [blockRows, blockColumns], scaleType) => {
      const stored = codes(height * width, height);
      // Every code at least once where there is room.
      if (stored.length >= 256) stored.set(Uint8Array.from({ length: 256 }, (_, code) => code));
      const scaleShape = [Math.ceil(height / blockRows), Math.ceil(width / blockColumns)];
      const random = createRandom(5);
      const scaleBytes = encodeFloats(
        Float32Array.from({ length: elementCount(scaleShape) }, () => 0.01 + random.uniform()),
        scaleType,
      );
      const checkpoint = shardOf(1, {
        w: { dtype: "F8_E4M3", shape: [height, width], bytes: stored },
        s: { dtype: scaleType, shape: scaleShape, bytes: scaleBytes },
      });
      const scales: WeightView = { tensor: "s", offset: 0, shape: scaleShape, dtype: scaleType };
      const view: WeightView = {
        tensor: "w",
        offset: 0,
        shape: [height, width],
        dtype: "F8_E4M3",
        quantisation: { kind: "scaled", scales, blockRows, blockColumns },
      };
      const expected = decodeFloat8Blocks(
        stored,
        { rows: height, columns: width },
        decodeFloats(scaleBytes, scaleType),
        { rows: blockRows, columns: blockColumns },
      );
      for (const keep of [false, true]) expect(await read(checkpoint, view, keep)).toEqual(expected);
    },
  );
});

describe("MXFP4", () => {
  test.each([
    [3, 4, 1],
    [2, 6, 3],
    [1, 1, 1],
  ])("%i experts of %i rows and %i groups, every exponent", async (experts, rows, groups) => {
    const stored = codes(experts * rows * groups * 16, 3);
    const exponents = codes(experts * rows * groups, 4);
    exponents.set([0, 1, 126, 127, 128, 254, 255].slice(0, exponents.length));
    const checkpoint = shardOf(1, {
      blocks: { dtype: "U8", shape: [experts, rows, groups, 16], bytes: stored },
      scales: { dtype: "U8", shape: [experts, rows, groups], bytes: exponents },
    });
    for (let expert = 0; expert < experts; expert++) {
      const from = expert * rows * groups;
      const view: WeightView = {
        tensor: "blocks",
        offset: from * 16,
        shape: [rows, groups * 32],
        dtype: "U8",
        quantisation: { kind: "mxfp4", scales: { tensor: "scales", offset: from, shape: [rows, groups], dtype: "U8" } },
      };
      const to = from + rows * groups;
      const expected = decodeMxfp4(stored.subarray(from * 16, to * 16), exponents.subarray(from, to));
      for (const keep of [false, true]) expect(await read(checkpoint, view, keep)).toEqual(expected);
    }
  });
});
