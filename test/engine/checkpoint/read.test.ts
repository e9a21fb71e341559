import { appendFileSync, readFileSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../../src/engine/checkpoint/checkpoint";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { readFloat32, readTensorBytes } from "../../../src/engine/checkpoint/read";
import { writeSafetensorsFile, type MemoryTensor } from "../../../src/engine/checkpoint/safetensorsFile";
import { expectError, folderWith } from "./fixtures";

async function checkpointOf(tensors: Record<string, MemoryTensor>): Promise<Checkpoint> {
  const folder = folderWith({ "config.json": {} });
  await writeSafetensorsFile(path.join(folder, "model.safetensors"), new Map(Object.entries(tensors)));
  return openCheckpoint(folder);
}

describe("readFloat32", () => {
  const rows: [MemoryTensor["dtype"], ArrayBufferView, number[]][] = [
    ["F32", Float32Array.of(1.5, -0.25, Infinity), [1.5, -0.25, Infinity]],
    ["F64", Float64Array.of(0.1, -2), [Math.fround(0.1), -2]],
    ["BF16", Uint16Array.of(0x3f80, 0xc020, 0x7f80), [1, -2.5, Infinity]],
    ["F16", Uint16Array.of(0x3c00, 0xc100, 0x0001), [1, -2.5, 2 ** -24]],
    ["F8_E4M3", Uint8Array.of(0x38, 0xb8, 0x7e), [1, -1, 448]],
    ["F8_E5M2", Uint8Array.of(0x3c, 0xbc, 0x7b), [1, -1, 57344]],
    ["F8_E8M0", Uint8Array.of(127, 130), [1, 8]],
    ["F4", Uint8Array.of(0x21), [0.5, 1]],
    ["I64", BigInt64Array.of(-5n, 7n), [-5, 7]],
    ["U64", BigUint64Array.of(5n), [5]],
    ["I32", Int32Array.of(-5, 7), [-5, 7]],
    ["U32", Uint32Array.of(4294967295), [4294967296]],
    ["I16", Int16Array.of(-5), [-5]],
    ["U16", Uint16Array.of(65535), [65535]],
    ["I8", Int8Array.of(-5), [-5]],
    ["U8", Uint8Array.of(255), [255]],
    ["BOOL", Uint8Array.of(0, 1), [0, 1]],
  ];
  it.each(rows)("%s", async (dtype, data, expected) => {
    const shape = [expected.length];
    const { tensors } = await checkpointOf({ z: { dtype, shape, data } });
    expect([...(await readFloat32(tensors.get("z")!))]).toEqual(expected);
  });

  it("reads a range, across the chunks in which large tensors are decoded", async () => {
    const count = 10_000_000;
    const data = Uint16Array.from({ length: count }, (_, i) => i & 0x7fff);
    const { tensors } = await checkpointOf({ w: { dtype: "U16", shape: [1000, 10_000], data } });
    const entry = tensors.get("w")!;
    const part = await readFloat32(entry, { offset: 123_457, count: 9_000_001 });
    expect(part).toHaveLength(9_000_001);
    expect(part.every((value, i) => value === data[123_457 + i])).toBe(true);
    expect(await readFloat32(entry, { offset: count - 1 })).toEqual(Float32Array.of(data[count - 1]!));
    expect(await readFloat32(entry, { offset: count })).toHaveLength(0);
  });

  it("refuses ranges outside the tensor or inside a byte", async () => {
    const { tensors } = await checkpointOf({ w: { dtype: "F4", shape: [2, 4], data: new Uint8Array(4) } });
    const entry = tensors.get("w")!;
    for (const range of [
      { offset: -2 },
      { offset: 10 },
      { count: 10 },
      { offset: 4, count: 6 },
      { offset: NaN },
      { offset: 0.5 },
    ]) {
      await expectError(() => readFloat32(entry, range), "arguments/invalid", '"w"', "it has 8");
    }
    await expectError(() => readFloat32(entry, { offset: 1 }), "arguments/invalid", "inside a byte");
    await expectError(
      () => readTensorBytes(entry, { byteOffset: 3, byteLength: 2 }),
      "arguments/invalid",
      "bytes 3 to 5",
    );
  });
});

it("reads from an address that is no multiple of the element size", async () => {
  const odd = {
    a: { dtype: "U8", shape: [1], data_offsets: [0, 1] },
    b: { dtype: "F32", shape: [2], data_offsets: [1, 9] },
  };
  const json = Buffer.from(JSON.stringify(odd));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = Buffer.concat([length, json, Buffer.of(1), Buffer.from(Float32Array.of(3.5, -1).buffer)]);
  const { tensors } = await openCheckpoint(folderWith({ "config.json": {}, "model.safetensors": file }));
  expect([...(await readFloat32(tensors.get("b")!))]).toEqual([3.5, -1]);
});

describe("a file that changes after it was opened", () => {
  const changes: [string, (file: string) => void][] = [
    ["shrinks", (file) => truncateSync(file, 100)],
    ["grows", (file) => appendFileSync(file, "x")],
    [
      "is rewritten with the same size",
      (file) => {
        writeFileSync(file, readFileSync(file));
        utimesSync(file, new Date(), new Date(Date.now() + 5000));
      },
    ],
  ];
  it.each(changes)("%s", async (_how, change) => {
    const { tensors, shards } = await checkpointOf({ w: { dtype: "F32", shape: [100], data: new Float32Array(100) } });
    change(shards[0]!.realPath);
    await expectError(
      () => readFloat32(tensors.get("w")!),
      "checkpoint/changed",
      "model.safetensors",
      "open the checkpoint again",
    );
  });

  it("is removed", async () => {
    const { tensors, shards } = await checkpointOf({ w: { dtype: "F32", shape: [1], data: new Float32Array(1) } });
    const entry = { ...tensors.get("w")!, shard: { ...shards[0]!, realPath: `${shards[0]!.realPath}.gone` } };
    await expectError(() => readTensorBytes(entry), "checkpoint/not-found", "gone");
  });

  it("ends before the bytes that an entry names", async () => {
    const { tensors } = await checkpointOf({ w: { dtype: "F32", shape: [4], data: new Float32Array(4) } });
    const entry = { ...tensors.get("w")!, shape: [40], byteLength: 160 };
    await expectError(() => readFloat32(entry), "checkpoint/truncated", "model.safetensors", "expected 144 more");
  });
});
