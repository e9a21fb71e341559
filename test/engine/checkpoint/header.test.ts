import { describe, expect, it } from "vitest";
import { parseSafetensorsHeader } from "../../../src/engine/checkpoint/header";
import type { ErrorCode } from "../../../src/protocol/errors";
import { expectError, rawSafetensors } from "./fixtures";

const parse = (file: Uint8Array) => parseSafetensorsHeader(file, file.byteLength, "model.safetensors");
const tensor = (begin: number, end: number, shape: unknown = [(end - begin) / 4], dtype: unknown = "F32") => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});
const one = (fields: string) => `{"router":{${fields}}}`;

describe("parseSafetensorsHeader accepts", () => {
  it("tensors in any order of the header, listed by offset, with offsets from the file's start", () => {
    const file = rawSafetensors({ b: tensor(4, 12), a: tensor(0, 4, []), __metadata__: { format: "pt" } }, 12);
    const start = file.byteLength - 12;
    expect(parse(file)).toEqual({
      metadata: { format: "pt" },
      tensors: [
        { name: "a", dtype: "F32", shape: [], byteOffset: start, byteLength: 4 },
        { name: "b", dtype: "F32", shape: [2], byteOffset: start + 4, byteLength: 8 },
      ],
    });
  });

  const accepted: [string, string | object, number, string[]][] = [
    ["an empty header", "{}", 0, []],
    ["padding after the header", `${JSON.stringify({ a: tensor(0, 4) })}    `, 4, ["a"]],
    [
      "tensors without elements",
      { a: tensor(0, 0, [0, 5]), b: tensor(0, 4), c: tensor(4, 4, [0]) },
      4,
      ["a", "b", "c"],
    ],
    ["keys it does not know", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"note":[{"x":null}]}}`, 1, ["a"]],
    ["F4, two values a byte", { a: tensor(0, 3, [2, 3], "F4") }, 3, ["a"]],
    [
      "names with escapes and other scripts",
      `{"\\u0061\\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"专家🙂":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`,
      2,
      ["a\n", "专家🙂"],
    ],
    [
      "names of JavaScript's own properties",
      `{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"constructor":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`,
      2,
      ["__proto__", "constructor"],
    ],
  ];
  it.each(accepted)("%s", (_what, header, dataBytes, names) => {
    expect(parse(rawSafetensors(header, dataBytes)).tensors.map(({ name }) => name)).toEqual(names);
  });

  it("any number of shapes, each as it is, and keeps one array for tensors of one shape", () => {
    const shapes = Array.from({ length: 40 }, (_, i) => (i % 3 === 0 ? [2, 3] : [1 + (i % 20), i]));
    let end = 0;
    const entries = shapes.map((shape, i) => {
      const begin = end;
      end += 4 * shape.reduce((a, b) => a * b, 1);
      return [`t${String(i).padStart(2, "0")}`, tensor(begin, end, shape)] as const;
    });
    const { tensors } = parse(rawSafetensors(Object.fromEntries(entries), end));
    const inOrder = [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(inOrder.map(({ shape }) => shape)).toEqual(shapes);
    expect(new Set(inOrder.filter((_, i) => i % 3 === 0).map(({ shape }) => shape)).size).toBe(1);
  });

  it("__proto__ in metadata without changing any prototype", () => {
    const { metadata } = parse(rawSafetensors(`{"__metadata__":{"__proto__":"x","toString":"y"}}`));
    expect(Object.getPrototypeOf(metadata)).toBeNull();
    expect(Object.entries(metadata)).toEqual([
      ["__proto__", "x"],
      ["toString", "y"],
    ]);
    expect(Object.keys(Object.prototype)).toEqual([]);
  });
});

describe("parseSafetensorsHeader refuses", () => {
  const name = '"model.safetensors"';
  const nested = "[".repeat(5000) + "]".repeat(5000);
  const rows: [string, Buffer, ErrorCode, string[]][] = [
    ["an empty file", Buffer.alloc(0), "checkpoint/truncated", [name, "has 0 bytes"]],
    ["a file of 7 bytes", Buffer.alloc(7), "checkpoint/truncated", [name, "has 7 bytes", "8-byte"]],
    [
      "a header longer than the file",
      rawSafetensors("{}", 0, 3n),
      "checkpoint/truncated",
      [name, "3 bytes", "only 10"],
    ],
    [
      "a header over the limit",
      rawSafetensors("{}", 0, 100_000_001n),
      "checkpoint/limit",
      [name, "100000001", "100000000"],
    ],
    ["the largest length field", rawSafetensors("{}", 0, 2n ** 64n - 1n), "checkpoint/limit", ["18446744073709551615"]],
    ["an empty header", rawSafetensors(""), "checkpoint/malformed", [name, "begin with {"]],
    ["a header that is no JSON", rawSafetensors("{router}"), "checkpoint/malformed", ["at byte 1"]],
    ["a header that is an array", rawSafetensors("[]"), "checkpoint/malformed", ["begin with {"]],
    ["a header that begins with a space", rawSafetensors(" {}"), "checkpoint/malformed", ["begin with {"]],
    ["text after the header", rawSafetensors("{}x"), "checkpoint/malformed", ["after the end"]],
    ["a header cut in a string", rawSafetensors('{"a'), "checkpoint/malformed", ["without an end"]],
    ["a header cut in a list", rawSafetensors('{"a":{"shape":[1,'), "checkpoint/malformed", ["the end"]],
    [
      "invalid UTF-8",
      rawSafetensors(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x7b, 0x7d, 0x7d]).toString("latin1")).fill(
        0xff,
        10,
        11,
      ),
      "checkpoint/malformed",
      ["UTF-8"],
    ],
    ["half a surrogate pair", rawSafetensors('{"\\ud800":{}}'), "checkpoint/malformed", ["surrogate"]],
    ["a control character in a name", rawSafetensors('{"a\nb":{}}'), "checkpoint/malformed", ["control character"]],
    [
      "a tensor that is a number",
      rawSafetensors('{"router":1}'),
      "checkpoint/malformed",
      ['"router"', "not an object"],
    ],
    [
      "a tensor without dtype",
      rawSafetensors(one('"shape":[],"data_offsets":[0,4]'), 4),
      "checkpoint/malformed",
      ['"router"', "no dtype"],
    ],
    [
      "a tensor without shape",
      rawSafetensors(one('"dtype":"F32","data_offsets":[0,4]'), 4),
      "checkpoint/malformed",
      ['"router"', "no shape"],
    ],
    [
      "a tensor without offsets",
      rawSafetensors(one('"dtype":"F32","shape":[]')),
      "checkpoint/malformed",
      ['"router"', "data_offsets"],
    ],
    [
      "one offset",
      rawSafetensors(one('"dtype":"U8","shape":[0],"data_offsets":[0]')),
      "checkpoint/malformed",
      ["two data_offsets"],
    ],
    [
      "three offsets",
      rawSafetensors(one('"dtype":"U8","shape":[0],"data_offsets":[0,0,0]')),
      "checkpoint/malformed",
      ["more than 2"],
    ],
    [
      "a dtype that is a number",
      rawSafetensors({ router: tensor(0, 4, [1], 32) }, 4),
      "checkpoint/malformed",
      ["not a string"],
    ],
    [
      "an unknown dtype",
      rawSafetensors({ router: tensor(0, 4, [1], "F7") }, 4),
      "checkpoint/unsupported-dtype",
      [name, '"router"', '"F7"'],
    ],
    [
      "a dtype of a prototype's name",
      rawSafetensors({ router: tensor(0, 4, [1], "toString") }, 4),
      "checkpoint/unsupported-dtype",
      ["toString"],
    ],
    [
      "a shape that is an object",
      rawSafetensors({ router: tensor(0, 4, {}) }, 4),
      "checkpoint/malformed",
      ['"router"', "no array"],
    ],
    [
      "a negative dimension",
      rawSafetensors({ router: tensor(0, 4, [-1]) }, 4),
      "checkpoint/malformed",
      ['"router"', '"-1"'],
    ],
    [
      "minus zero",
      rawSafetensors(one('"dtype":"U8","shape":[-0],"data_offsets":[0,0]')),
      "checkpoint/malformed",
      ['"-0"'],
    ],
    [
      "a fractional dimension",
      rawSafetensors({ router: tensor(0, 4, [0.5, 2]) }, 4),
      "checkpoint/malformed",
      ['"0.5"'],
    ],
    [
      "a dimension with an exponent",
      rawSafetensors(one('"dtype":"F32","shape":[1e0],"data_offsets":[0,4]'), 4),
      "checkpoint/malformed",
      ['"1e0"'],
    ],
    [
      "a dimension in quotes",
      rawSafetensors({ router: tensor(0, 4, ["1"]) }, 4),
      "checkpoint/malformed",
      ["whole number"],
    ],
    [
      "a dimension beyond 2^53",
      rawSafetensors(one('"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,4]'), 4),
      "checkpoint/malformed",
      ["9007199254740993"],
    ],
    [
      "a product beyond 2^53",
      rawSafetensors({ router: tensor(0, 4, [2 ** 40, 2 ** 40]) }, 4),
      "checkpoint/malformed",
      ['"router"', "takes 4 bytes"],
    ],
    [
      "a product that is not a number",
      rawSafetensors({ router: tensor(0, 0, [...Array<number>(15).fill(2 ** 52), 0]) }),
      "checkpoint/malformed",
      [],
    ],
    [
      "17 dimensions",
      rawSafetensors({ router: tensor(0, 4, Array(17).fill(1)) }, 4),
      "checkpoint/malformed",
      ['"router"', "more than 16"],
    ],
    ["a negative offset", rawSafetensors({ router: tensor(-4, 0, [1]) }), "checkpoint/malformed", ['"router"', '"-4"']],
    [
      "offsets in the wrong order",
      rawSafetensors({ router: tensor(4, 0, [1]) }, 4),
      "checkpoint/malformed",
      ['"router"', "[4, 0]"],
    ],
    [
      "a shape larger than its bytes",
      rawSafetensors({ router: tensor(0, 4, [2]) }, 4),
      "checkpoint/malformed",
      ['"router"', "takes 4", "F32 [2] needs 8"],
    ],
    [
      "a shape smaller than its bytes",
      rawSafetensors({ router: tensor(0, 8, [1]) }, 8),
      "checkpoint/malformed",
      ["takes 8", "needs 4"],
    ],
    [
      "half a byte of F4",
      rawSafetensors({ router: tensor(0, 1, [1], "F4") }, 1),
      "checkpoint/malformed",
      ["needs 0.5"],
    ],
    [
      "two tensors at one place",
      rawSafetensors({ a: tensor(0, 4), router: tensor(0, 4) }, 8),
      "checkpoint/malformed",
      ['"router"', "inside the one before"],
    ],
    [
      "overlapping tensors",
      rawSafetensors({ a: tensor(0, 8), router: tensor(4, 12) }, 12),
      "checkpoint/malformed",
      ['"router"', "byte 4", "to 8"],
    ],
    [
      "a hole",
      rawSafetensors({ a: tensor(0, 4), router: tensor(8, 12) }, 12),
      "checkpoint/malformed",
      ["4 to 8", '"router"'],
    ],
    [
      "a hole at the start",
      rawSafetensors({ router: tensor(4, 8) }, 8),
      "checkpoint/malformed",
      ["0 to 4", '"router"'],
    ],
    [
      "bytes after the last tensor",
      rawSafetensors({ router: tensor(0, 4) }, 7),
      "checkpoint/malformed",
      [name, "3 bytes after"],
    ],
    [
      "missing data",
      rawSafetensors({ a: tensor(0, 4), router: tensor(4, 12) }, 11),
      "checkpoint/truncated",
      [name, '"router"', "12", "11"],
    ],
    ["no data at all", rawSafetensors({ router: tensor(0, 4) }, 0), "checkpoint/truncated", ['"router"']],
    [
      "a tensor named twice",
      rawSafetensors(`{"router":${JSON.stringify(tensor(0, 4))},"router":${JSON.stringify(tensor(4, 8))}}`, 8),
      "checkpoint/malformed",
      ['"router"', "twice"],
    ],
    [
      "the same name in two spellings",
      rawSafetensors(`{"r":${JSON.stringify(tensor(0, 4))},"\\u0072":${JSON.stringify(tensor(4, 8))}}`, 8),
      "checkpoint/malformed",
      ['"r"', "twice"],
    ],
    [
      "two dtypes",
      rawSafetensors(one('"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]')),
      "checkpoint/malformed",
      ["two dtypes"],
    ],
    [
      "two shapes",
      rawSafetensors(one('"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]')),
      "checkpoint/malformed",
      ["two shapes"],
    ],
    [
      "offsets twice",
      rawSafetensors(one('"data_offsets":[0,0],"data_offsets":[0,0]')),
      "checkpoint/malformed",
      ["twice"],
    ],
    [
      "metadata twice",
      rawSafetensors('{"__metadata__":{},"__metadata__":{}}'),
      "checkpoint/malformed",
      ["__metadata__", "twice"],
    ],
    ["metadata that is a list", rawSafetensors('{"__metadata__":[]}'), "checkpoint/malformed", ["__metadata__"]],
    [
      "metadata that is a number",
      rawSafetensors('{"__metadata__":{"step":1}}'),
      "checkpoint/malformed",
      ['"step"', "not a string"],
    ],
    [
      "too much metadata",
      rawSafetensors({ __metadata__: Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`k${i}`, ""])) }),
      "checkpoint/limit",
      ["10000"],
    ],
    ["deep nesting", rawSafetensors(one(`"note":${nested}`)), "checkpoint/malformed", ["more than 64 nested"]],
    [
      "a number of a thousand digits",
      rawSafetensors(one(`"shape":[${"9".repeat(1000)}]`)),
      "checkpoint/malformed",
      ["400 characters"],
    ],
    [
      "a name that would forge a line",
      rawSafetensors({ "a\u001b[2J\u202eb": 1 }),
      "checkpoint/malformed",
      ["a\\u001b[2J\\u202eb"],
    ],
    [
      "a name of 10 kB, cut in the message",
      rawSafetensors({ [`${"n".repeat(10_000)}END`]: 1 }),
      "checkpoint/malformed",
      [`${"n".repeat(120)}...`],
    ],
  ];
  it.each(rows)("%s", async (_what, file, code, mentions) => {
    await expectError(() => parse(file), code, ...mentions);
  });

  it("more tensors than the limit, without building them all first", async () => {
    const header = `{${Array.from({ length: 500_001 }, (_, i) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`).join(",")}}`;
    await expectError(() => parse(rawSafetensors(header)), "checkpoint/limit", "500000 tensors");
  });
});
