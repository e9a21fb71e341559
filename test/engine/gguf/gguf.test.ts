import { writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { openGguf } from "../../../src/engine/gguf/header";
import { openGgufModel } from "../../../src/engine/gguf/open";
import { ggufType } from "../../../src/engine/gguf/types";
import { floats, ggufBytes, text, u32, u64, type GgufParts } from "../../support/ggufFile";
import { temporaryFolder } from "../../support/temporaryFolder";

const folder = temporaryFolder();
let files = 0;

async function write(parts: GgufParts | Uint8Array, name = `${files++}.gguf`): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, parts instanceof Uint8Array ? parts : ggufBytes(parts));
  return file;
}

const tensor = { name: "a", type: 0, shape: [2, 3], data: floats(1, 2, 3, 4, 5, 6) };

describe("GGUF headers", () => {
  test("metadata of every value type, tensors with row-major shapes", async () => {
    const file = await openGguf(
      await write({
        metadata: [
          ["general.architecture", { string: "qwen3moe" }],
          ["u32", { uint32: 7 }],
          ["flag", { bool: true }],
          ["names", { strings: ["x", "yy"] }],
          ["u8", { type: 0, bytes: Uint8Array.of(200) }],
          ["i8", { type: 1, bytes: Uint8Array.of(200) }],
          ["u16", { type: 2, bytes: Uint8Array.of(1, 2) }],
          ["i16", { type: 3, bytes: Uint8Array.of(255, 255) }],
          ["i32", { type: 5, bytes: Uint8Array.of(255, 255, 255, 255) }],
          ["f32", { type: 6, bytes: floats(0.5) }],
          ["u64", { type: 10, bytes: u64(5n) }],
          ["i64", { type: 11, bytes: u64(2n ** 64n - 3n) }],
          ["f64", { type: 12, bytes: new Uint8Array(Float64Array.of(2.5).buffer) }],
          ["nested", { type: 9, bytes: Buffer.concat([u32(9), u64(1n), u32(4), u64(2n), u32(8), u32(9)]) }],
          ["vocabulary", { type: 9, bytes: Buffer.concat([u32(6), u64(5000n), Buffer.alloc(20000)]) }],
          ["after", { uint32: 1 }],
          ["__proto__", { uint32: 2 }],
        ],
        tensors: [
          tensor,
          { name: "q4", type: 12, shape: [3, 2, 256], data: new Uint8Array(6 * 144) },
          { name: "scalar", type: 30, shape: [], data: new Uint8Array(2) },
        ],
      }),
    );
    expect(Object.fromEntries([...file.metadata].filter(([key]) => key !== "__proto__"))).toEqual({
      "general.architecture": "qwen3moe",
      u32: 7,
      flag: true,
      names: ["x", "yy"],
      u8: 200,
      i8: -56,
      u16: 513,
      i16: -1,
      i32: -1,
      f32: 0.5,
      u64: 5,
      i64: -3,
      f64: 2.5,
      nested: [[8, 9]],
      vocabulary: { length: 5000 },
      after: 1,
    });
    expect(file.metadata.get("__proto__")).toBe(2);
    expect(file.tensors.map(({ name, type, shape, byteLength }) => ({ name, type, shape, byteLength }))).toEqual([
      { name: "a", type: "F32", shape: [2, 3], byteLength: 24 },
      { name: "q4", type: "Q4_K", shape: [3, 2, 256], byteLength: 864 },
      { name: "scalar", type: "BF16", shape: [], byteLength: 2 },
    ]);
    expect(file.tensors[1]!.byteOffset - file.tensors[0]!.byteOffset).toBe(32);
  });

  test("a type that is newer than the table has the size up to the next tensor", async () => {
    const { tensors } = await openGguf(
      await write({
        tensors: [{ name: "new", type: 77, shape: [4, 4], data: new Uint8Array(32) }, tensor],
      }),
    );
    expect(tensors.map(({ type, byteLength }) => [type, byteLength])).toEqual([
      ["type 77", 32],
      ["F32", 24],
    ]);
  });

  test("another alignment", async () => {
    const parts = { alignment: 8, metadata: [["general.alignment", { uint32: 8 }]] as const };
    const { tensors } = await openGguf(await write({ ...parts, tensors: [tensor, { ...tensor, name: "b" }] }));
    expect(tensors[1]!.byteOffset - tensors[0]!.byteOffset).toBe(24);
  });

  const many = { type: 9, bytes: Buffer.concat([u32(4), u64(2n ** 40n)]) };
  const deep = Buffer.concat(Array.from({ length: 9 }, () => Buffer.concat([u32(9), u64(1n)])));
  const rows: [string, GgufParts | Uint8Array, string, RegExp][] = [
    ["an empty file", new Uint8Array(0), "checkpoint/truncated", /ends at byte 0/],
    ["other magic", { magic: "GGML" }, "checkpoint/malformed", /does not begin with "GGUF"/],
    ["version 1", { version: 1 }, "checkpoint/malformed", /has version 1/],
    ["big-endian", { version: 3 * 2 ** 24 }, "checkpoint/malformed", /big-endian/],
    ["a billion tensors", { claimedTensors: 10n ** 9n }, "checkpoint/limit", /1000000000 tensors/],
    ["2^63 tensors", { claimedTensors: 2n ** 63n }, "checkpoint/malformed", /number of tensors/],
    ["a billion keys", { claimedKeys: 10n ** 9n }, "checkpoint/limit", /metadata keys/],
    [
      "more tensors than there are",
      { claimedTensors: 2n, tensors: [tensor] },
      "checkpoint/malformed",
      /"a" reaches into ""/,
    ],
    ["a cut header", { tensors: [tensor], cutAt: 40 }, "checkpoint/truncated", /goes on/],
    ["cut data", { tensors: [tensor], cutAt: 96 }, "checkpoint/truncated", /tensor "a".*ends at byte/],
    ["an unknown value type", { metadata: [["k", { type: 99, bytes: u32(0) }]] }, "checkpoint/malformed", /type 99/],
    ["an array of 2^40", { metadata: [["k", many]] }, "checkpoint/limit", /elements in metadata "k"/],
    ["deep arrays", { metadata: [["k", { type: 9, bytes: deep }]] }, "checkpoint/malformed", /deeper than 4/],
    [
      "a key twice",
      {
        metadata: [
          ["k", { uint32: 1 }],
          ["k", { uint32: 2 }],
        ],
      },
      "checkpoint/malformed",
      /twice/,
    ],
    [
      "a string of 2^50 bytes",
      { metadata: [["k", { type: 8, bytes: u64(2n ** 50n) }]] },
      "checkpoint/limit",
      /bytes in metadata "k"/,
    ],
    [
      "invalid UTF-8",
      { metadata: [["k", { type: 8, bytes: Buffer.concat([u64(2n), Buffer.from([0xc3, 0x28])]) }]] },
      "checkpoint/malformed",
      /UTF-8/,
    ],
    ["a tensor twice", { tensors: [tensor, tensor] }, "checkpoint/malformed", /tensor "a" occurs twice/],
    ["five axes", { tensors: [{ ...tensor, shape: [1, 1, 1, 2, 3] }] }, "checkpoint/malformed", /5 axes/],
    ["2^63 rows", { tensors: [{ ...tensor, shape: [2n ** 63n, 3] }] }, "checkpoint/malformed", /a dimension/],
    [
      "a product beyond 2^53",
      { tensors: [{ ...tensor, shape: [2n ** 40n, 2n ** 40n, 0] }] },
      "checkpoint/malformed",
      /larger than any file/,
    ],
    [
      "half a block",
      { tensors: [{ name: "q", type: 12, shape: [100], data: new Uint8Array(144) }] },
      "checkpoint/malformed",
      /blocks of 256/,
    ],
    [
      "an unaligned tensor",
      { tensors: [{ ...tensor, offset: 7 }] },
      "checkpoint/malformed",
      /multiple of the alignment/,
    ],
    [
      "overlapping tensors",
      {
        tensors: [
          { ...tensor, shape: [2, 30], data: new Uint8Array(240) },
          { ...tensor, name: "b", offset: 32 },
        ],
      },
      "checkpoint/malformed",
      /reaches into "b"/,
    ],
    ["alignment 0", { metadata: [["general.alignment", { uint32: 0 }]] }, "checkpoint/malformed", /alignment is 0/],
    [
      "an alignment in words",
      { metadata: [["general.alignment", { string: "32" }]] },
      "checkpoint/malformed",
      /alignment is "32"/,
    ],
    [
      "a hostile name",
      Buffer.concat([Buffer.from("GGUF"), u32(3), u64(1n), u64(0n), text("a\u202e\n<img>"), u32(9)]),
      "checkpoint/malformed",
      /"a\\u202e\\n<img>" has 9 axes/,
    ],
  ];
  test.each(rows)("refuses %s", async (_, parts, code, message) => {
    await expect(openGguf(await write(parts))).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as unknown,
    });
  });

  test("random bytes behind the magic end in a typed error", async () => {
    const base = ggufBytes({ metadata: [["k", { strings: ["a", "b"] }]], tensors: [tensor] });
    let seed = 1;
    for (let i = 0; i < 300; i++) {
      const bytes = Buffer.from(base);
      for (let n = 0; n < 3; n++) {
        seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
        bytes[8 + (seed % (bytes.length - 8))] = seed >>> 8;
      }
      const result = await openGguf(await write(bytes, "mutated.gguf")).then(
        () => "read",
        (error: unknown) => (error as { code?: string }).code,
      );
      expect(result).toMatch(/^(read|checkpoint\/)/);
    }
  });
});

describe("split models", () => {
  test("any part opens all of them, in order", async () => {
    await write({ metadata: [["general.architecture", { string: "x" }]], tensors: [tensor] }, "m-00001-of-00002.gguf");
    const second = await write({ tensors: [{ ...tensor, name: "b" }] }, "m-00002-of-00002.gguf");
    const model = await openGgufModel(second);
    expect(path.basename(model.path)).toBe("m-00001-of-00002.gguf");
    expect(model.tensors.map(({ name, shard }) => [name, shard.name])).toEqual([
      ["a", "m-00001-of-00002.gguf"],
      ["b", "m-00002-of-00002.gguf"],
    ]);
    expect(model.metadata.get("general.architecture")).toBe("x");
  });

  test("a missing part, a tensor in two parts", async () => {
    const alone = await write({ tensors: [tensor] }, "n-00001-of-00002.gguf");
    await expect(openGgufModel(alone)).rejects.toMatchObject({ code: "checkpoint/not-found" });
    await write({ tensors: [tensor] }, "n-00002-of-00002.gguf");
    await expect(openGgufModel(alone)).rejects.toMatchObject({ code: "checkpoint/malformed" });
  });
});

test("bits a weight of well-known types", () => {
  const bits = (id: number): number => {
    const { blockBytes, blockElements } = ggufType(id)!;
    return (blockBytes * 8) / blockElements;
  };
  expect([12, 14, 8, 39, 1].map(bits)).toEqual([4.5, 6.5625, 8.5, 4.25, 16]);
  expect(ggufType(4)).toBeNull();
});
