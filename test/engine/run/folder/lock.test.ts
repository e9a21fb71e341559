import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lockRunFolder } from "../../../../src/engine/run/folder/lock";
import { parseMemorySize, availableMemoryBytes, residentBytes } from "../../../../src/engine/run/machine/machine";
import { progressMeter } from "../../../../src/engine/run/progressMeter";
import type { Progress } from "../../../../src/protocol/progress";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "lock-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("lock of a run folder", () => {
  const write = (lock: unknown) => writeFile(path.join(folder, "lock.json"), JSON.stringify(lock));

  it("keeps a second one out until released", async () => {
    const release = await lockRunFolder(folder);
    await expect(lockRunFolder(folder)).rejects.toMatchObject({
      code: "run/locked",
      message: expect.stringContaining(`process ${process.pid}`) as string,
    });
    await release();
    await (
      await lockRunFolder(folder)
    )();
    expect(await readdir(folder)).toEqual([]);
  });

  it("is taken over from a dead process, also where its number was given away again", async () => {
    const dead = spawnSync(process.execPath, ["-e", ""]).pid;
    await write({ pid: dead, host: hostname(), processStart: null });
    await (
      await lockRunFolder(folder)
    )();
    await write({ pid: process.pid, host: hostname(), processStart: "1" });
    if (process.platform === "linux") await (await lockRunFolder(folder))();
    await writeFile(path.join(folder, "lock.json"), "{cut");
    await (
      await lockRunFolder(folder)
    )();
  });

  it("holds against a living process and against other machines", async () => {
    const child = spawn(process.execPath, ["-e", "setTimeout(() => {}, 60000)"]);
    try {
      await write({ pid: child.pid, host: hostname(), processStart: null });
      await expect(lockRunFolder(folder)).rejects.toMatchObject({ code: "run/locked" });
      await write({ pid: 1, host: "elsewhere", processStart: null });
      await expect(lockRunFolder(folder)).rejects.toThrow(/process 1 on elsewhere.*delete/);
    } finally {
      child.kill();
    }
  });
});

it.each([
  ["8GiB", 8 * 2 ** 30],
  ["1.5GB", 1.5e9],
  ["512 MiB", 512 * 2 ** 20],
  ["100", 100],
  ["64kb", 64000],
])("memory size %s", (text, bytes) => {
  expect(parseMemorySize(text)).toBe(bytes);
  expect(() => parseMemorySize(`${text} x`)).toThrow(/8GiB/);
});

it("knows the memory of this machine", () => {
  expect(availableMemoryBytes()).toBeGreaterThan(2 ** 20);
  expect(residentBytes()).toBeGreaterThan(2 ** 20);
});

it("progress gets a rate and the remaining time, not too often, and always the end", () => {
  const seen: Progress[] = [];
  let now = 0;
  const report = progressMeter(
    (p) => seen.push(p),
    () => now,
  );
  for (let done = 0; done <= 100; done++) {
    report({ stage: "profile", message: "m", done, total: 100, unit: "tokens" });
    now += 50;
  }
  expect(seen.length).toBeLessThan(30);
  expect(seen[0]!.rate).toBeUndefined();
  expect(seen[10]!.rate).toBeCloseTo(20, 6);
  expect(seen.at(-1)).toMatchObject({ done: 100, remainingSeconds: 0 });
  report({ stage: "calibrate", message: "m", done: 0, total: 9, unit: "updates" });
  expect(seen.at(-1)).toEqual({ stage: "calibrate", message: "m", done: 0, total: 9, unit: "updates" });
});
