import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import {
  readSafetensorsFile,
  writeSafetensorsFile,
  type MemoryTensor,
} from "../../../src/engine/checkpoint/safetensorsFile";
import { bytesOf } from "../../../src/engine/tensor/floatCodec";
import { temporaryFolder } from "../../support/temporaryFolder";
import { expectError, rawSafetensors } from "./fixtures";

const tensors = new Map<string, MemoryTensor>([
  ["flags", { dtype: "BOOL", shape: [3], data: Uint8Array.of(1, 0, 1) }],
  ["b", { dtype: "F32", shape: [2, 1], data: Float32Array.of(1, 2) }],
  ["step", { dtype: "I64", shape: [], data: BigInt64Array.of(7n) }],
  ["a", { dtype: "F32", shape: [1], data: Float32Array.of(3) }],
  ["half", { dtype: "BF16", shape: [1], data: Uint16Array.of(0x3f80) }],
  ["none", { dtype: "F32", shape: [0, 4], data: new Float32Array(0) }],
]);

describe("writeSafetensorsFile", () => {
  it("gives the bytes of the reference implementation", async () => {
    const file = path.join(temporaryFolder(), "x.safetensors");
    await writeSafetensorsFile(file, tensors, { format: "pt" });
    // Written by safetensors 0.8 (Rust) from the same tensors.
    const header =
      '{"__metadata__":{"format":"pt"},"step":{"dtype":"I64","shape":[],"data_offsets":[0,8]},' +
      '"a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[12,20]},' +
      '"none":{"dtype":"F32","shape":[0,4],"data_offsets":[20,20]},"half":{"dtype":"BF16","shape":[1],"data_offsets":[20,22]},' +
      '"flags":{"dtype":"BOOL","shape":[3],"data_offsets":[22,25]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8, " ");
    const data = Buffer.from("0700000000000000" + "00004040" + "0000803f00000040" + "803f" + "010001", "hex");
    expect(readFileSync(file).toString("hex")).toBe(Buffer.concat([rawSafetensors(padded), data]).toString("hex"));
  });

  it("gives back what was written, names and metadata of any kind included", async () => {
    const file = path.join(temporaryFolder(), "x.safetensors");
    const odd = new Map(tensors).set("__proto__", { dtype: "U8", shape: [1], data: Uint8Array.of(5) });
    odd.set('专家 "🙂"\n', { dtype: "F64", shape: [1], data: Float64Array.of(0.1) });
    await writeSafetensorsFile(file, odd, { note: 'line\n"quoted" ü', a: "" });
    const read = await readSafetensorsFile(file);
    expect({ ...read.metadata }).toEqual({ note: 'line\n"quoted" ü', a: "" });
    expect([...read.tensors.keys()].sort()).toEqual([...odd.keys()].sort());
    for (const [name, { dtype, shape, data }] of odd) {
      expect(read.tensors.get(name)).toMatchObject({ dtype, shape });
      expect([...read.tensors.get(name)!.data]).toEqual([...bytesOf(data)]);
    }
  });

  it("depends neither on the order of tensors nor of metadata, and replaces the file at once", async () => {
    const folder = temporaryFolder();
    const file = path.join(folder, "x.safetensors");
    await writeSafetensorsFile(file, tensors, { a: "1", b: "2" });
    const first = readFileSync(file);
    await writeSafetensorsFile(file, new Map([...tensors].reverse()), { b: "2", a: "1" });
    expect(readFileSync(file).equals(first)).toBe(true);
    expect(readdirSync(folder)).toEqual(["x.safetensors"]);
  });

  it("takes views into larger buffers", async () => {
    const file = path.join(temporaryFolder(), "x.safetensors");
    const data = Float32Array.of(0, 1, 2, 3).subarray(1, 3);
    await writeSafetensorsFile(file, new Map([["v", { dtype: "F32", shape: [2], data }]]));
    expect([...(await readSafetensorsFile(file)).tensors.get("v")!.data]).toEqual([...bytesOf(Float32Array.of(1, 2))]);
  });

  it("refuses data that does not fit its shape, and leaves the old file when the folder cannot be written", async () => {
    const folder = temporaryFolder();
    const wrong = new Map([["w", { dtype: "F32" as const, shape: [3], data: new Float32Array(2) }]]);
    await expectError(
      () => writeSafetensorsFile(path.join(folder, "x"), wrong),
      "internal",
      '"w"',
      "8 bytes",
      "needs 12",
    );
    await expectError(
      () => writeSafetensorsFile(path.join(folder, "gone/x"), tensors),
      "output/write-failed",
      "folder does not exist",
    );
    mkdirSync(path.join(folder, "taken"));
    writeFileSync(path.join(folder, "taken/file"), "");
    await expectError(() => writeSafetensorsFile(path.join(folder, "taken"), tensors), "output/write-failed", "taken");
    expect(readdirSync(folder)).toEqual(["taken"]);
  });

  it("is read again with the errors of any checkpoint file", async () => {
    const folder = temporaryFolder();
    writeFileSync(path.join(folder, "x"), rawSafetensors('{"a":1}'));
    await expectError(() => readSafetensorsFile(path.join(folder, "x")), "checkpoint/malformed", '"a"');
    await expectError(() => readSafetensorsFile(path.join(folder, "gone")), "checkpoint/not-found", "gone");
  });
});
