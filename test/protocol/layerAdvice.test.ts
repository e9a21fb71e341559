/** When a run is better cut by layers, against Qwen3-30B-A3B by hand. */
import { expect, it } from "vitest";
import { layerAdvice } from "../../src/protocol/layerAdvice";

const GB = 1e9;
/** 61 GB; 47 tiles of 207 s each, with 6 GB of arrays. */
const preflight = {
  bytesBefore: 61 * GB,
  stages: [
    {
      ...{ stage: "profile" as const, seconds: 9800, peakMemoryBytes: 6 * GB, assumption: "" },
      spread: [{ seconds: 47 * 207, parts: 47, limit: "" }],
    },
  ],
};
const small = { ...preflight, bytesBefore: 4 * GB };
const slow = {
  ...preflight,
  stages: [{ ...preflight.stages[0]!, spread: [{ seconds: 47 * 2000, parts: 47, limit: "" }] }],
};
const of = (...gigabytes: number[]) => gigabytes.map((memory) => ({ memoryBytes: memory * GB }));

it.each([
  ["61 + 6 GB do not fit into 48: halves do, 30.5 + 6", preflight, of(64, 48, 96), 1, 2],
  ["quarters for 24 GB: 61 / (24 - 6) = 3.4", preflight, of(24, 24, 24, 24, 24), 1, 4],
  ["no more parts than workers", preflight, of(12, 12, 12), 1, 3],
  ["what does not hold its arrays takes what there is", preflight, of(4, 4), 1, 2],
  ["all have room", preflight, of(68, 96), 1, null],
  ["one worker has nobody to share with", preflight, of(12), 1, null],
  ["it is cut already", preflight, of(48, 48), 2, null],
  ["a tile that takes 2000 s reads 31 MB/s: storage gives that", slow, of(48, 48), 1, null],
  ["4 GB fit", small, of(12, 12), 1, null],
])("%s", (_name, given, workers, parts, expected) => {
  expect(layerAdvice(given, workers, parts)?.parts ?? null).toBe(expected);
});

it("says what is needed, what there is and what would be read", () => {
  const advice = layerAdvice(preflight, of(48, 64))!;
  expect([advice.neededBytes, advice.memoryBytes]).toEqual([67 * GB, 48 * GB]);
  expect(advice.readBytesPerSecond).toBeCloseTo((61 * GB) / 207, 0);
});
