import path from "node:path";
import { readdirSync } from "node:fs";
import { expect, it } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { fallbackDiskBytesPerSecond, measureDisk } from "../../../src/engine/execution/measureDisk";
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
  });
});
