import path from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { writeSafetensorsFile, type MemoryTensor } from "../../../src/engine/checkpoint/safetensorsFile";
import { scanForNonFinite } from "../../../src/engine/checkpoint/scan";
import { expectError, folderWith } from "./fixtures";

async function checkpointOf(tensors: Record<string, MemoryTensor>) {
  const folder = folderWith({ "config.json": {} });
  await writeSafetensorsFile(path.join(folder, "model.safetensors"), new Map(Object.entries(tensors)));
  return openCheckpoint(folder);
}

describe("scanForNonFinite", () => {
  const large = new Uint16Array(5_000_000).fill(0x3f80);
  large[4_999_998] = 0x7fc0;
  const rows: [MemoryTensor["dtype"], ArrayBufferView, number, number][] = [
    ["F32", Float32Array.of(3.4e38, -0, 1e-45), 0, -1],
    ["F32", Float32Array.of(1, -Infinity, NaN), 2, 1],
    ["F64", Float64Array.of(1e308, NaN), 1, 1],
    ["BF16", Uint16Array.of(0x7f7f, 0xff80, 0x0001), 1, 1],
    ["BF16", large, 1, 4_999_998],
    ["F16", Uint16Array.of(0x7bff, 0x7c00, 0xfe00), 2, 1],
    ["F8_E4M3", Uint8Array.of(0x7e, 0xff), 1, 1],
    ["F8_E5M2", Uint8Array.of(0x7b, 0x7c, 0xff), 2, 1],
    ["F8_E8M0", Uint8Array.of(254, 255), 1, 1],
    ["I64", BigInt64Array.of(-1n), 0, -1],
    ["U8", Uint8Array.of(255), 0, -1],
  ];
  it.each(rows)("%s", async (dtype, data, count, firstElement) => {
    const bytesPerElement = { F64: 8, I64: 8, F32: 4, BF16: 2, F16: 2 }[dtype as string] ?? 1;
    const checkpoint = await checkpointOf({ w: { dtype, shape: [data.byteLength / bytesPerElement], data } });
    expect(await scanForNonFinite(checkpoint)).toEqual(count === 0 ? [] : [{ name: "w", count, firstElement }]);
  });

  it("looks only at the tensors named, and refuses names that are not there", async () => {
    const bad = { dtype: "F32" as const, shape: [2], data: Float32Array.of(1, NaN) };
    const checkpoint = await checkpointOf({ a: bad, b: bad, c: { ...bad, data: Float32Array.of(1, 2) } });
    expect(await scanForNonFinite(checkpoint, ["c"])).toEqual([]);
    expect((await scanForNonFinite(checkpoint)).map(({ name }) => name)).toEqual(["a", "b"]);
    await expectError(() => scanForNonFinite(checkpoint, ["z"]), "checkpoint/missing-tensor", '"z"');
    await expectError(() => scanForNonFinite(checkpoint, ["a"], AbortSignal.abort()), "cancelled");
  });
});
