import path from "node:path";
import { readdirSync } from "node:fs";
import { expect, it } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import {
  diskRate,
  fallbackBufferBytesPerSecond,
  fallbackDiskBytesPerSecond,
  measureDisk,
} from "../../../src/engine/execution/measureDisk";
import { temporaryFolder } from "../../support/temporaryFolder";

const fixture = path.join(__dirname, "../../fixtures/coarse");

it("measures both disks and leaves nothing behind", async () => {
  const scratch = temporaryFolder();
  const speeds = measureDisk(await openCheckpoint(fixture), scratch);
  for (const speed of Object.values(speeds)) {
    expect(Number.isFinite(speed)).toBe(true);
    expect(speed).toBeGreaterThan(0);
    expect(speed).not.toBe(fallbackDiskBytesPerSecond);
  }
  expect(readdirSync(scratch)).toEqual([]);
});

it("takes disks that cannot be used for common ones", async () => {
  const checkpoint = await openCheckpoint(fixture);
  const gone = { ...checkpoint, shards: checkpoint.shards.map((shard) => ({ ...shard, realPath: "/nowhere/x" })) };
  const fallback = fallbackDiskBytesPerSecond;
  expect(measureDisk(gone, path.join(fixture, "config.json"))).toEqual({
    readBytesPerSecond: fallback,
    writeBytesPerSecond: fallback,
    bufferBytesPerSecond: fallbackBufferBytesPerSecond,
  });
});

it.each([
  ["all from the disk, slow and fast alike", [true, true, true, true], [1, 1, 1, 5], 4 / 8],
  ["only what came from the disk", [false, true, false, true], [0.1, 1, 0.1, 3], 2 / 4],
  ["the slower half where the system does not tell", [null, null, null, null], [1, 0.1, 3, 0.1], 2 / 4],
  ["the slower half where all was cached", [false, false], [1, 2], 1 / 2],
])("the disk's rate counts %s", (_name, cold, seconds, expected) => {
  const stretches = seconds.map((s, i) => ({ bytes: 1, seconds: s, isCold: cold[i] ?? null }));
  expect(diskRate(stretches)).toBeCloseTo(expected, 12);
});
