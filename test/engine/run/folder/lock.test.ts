import { spawn, spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { createRandom } from "../../../../src/engine/tensor/random";
import { lockRunFolder } from "../../../../src/engine/run/folder/lock";
import { parseMemorySize, availableMemoryBytes, residentBytes } from "../../../../src/engine/run/machine/machine";
import { progressMeter } from "../../../../src/engine/run/progressMeter";
import type { Progress } from "../../../../src/protocol/progress";
import { isNightly } from "../../../support/nightly";

/** Lets the calls of node:fs/promises that wait go on one at a time, in an order drawn from a seed. */
const schedule = vi.hoisted(() => {
  let waiting: (() => void)[] | null = null;
  let next = (_: number): number => 0;
  const step = (): void => {
    if (waiting === null) return;
    if (waiting.length > 0) waiting.splice(next(waiting.length), 1)[0]!();
    setImmediate(step);
  };
  return {
    turn: (): Promise<void> => new Promise((resolve) => (waiting === null ? resolve() : waiting.push(resolve))),
    beginWith: (below: (count: number) => number): void => {
      waiting = [];
      next = below;
      setImmediate(step);
    },
    end: (): void => void (waiting = null),
    begin: (_seed: number): void => undefined,
  };
});
schedule.begin = (seed) => {
  const random = createRandom(seed);
  schedule.beginWith((count) => random.below(count));
};
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const inTurn = <A extends unknown[], R>(call: (...args: A) => Promise<R>) => {
    return async (...args: A): Promise<R> => {
      await schedule.turn();
      return call(...args);
    };
  };
  const { open, readFile, rename, rm, link, writeFile } = real;
  const steps = { open, readFile, rename, rm, link, writeFile } as Record<
    string,
    (...args: never[]) => Promise<unknown>
  >;
  return { ...real, ...Object.fromEntries(Object.entries(steps).map(([name, call]) => [name, inTurn(call)])) };
});

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

describe("contenders for a stale lock", () => {
  // Every step at the disk waits for its turn, and chance says whose comes next: other orders than a quiet machine's.
  it.each(Array.from({ length: isNightly ? 40 : 2 }, (_, i) => i))(
    "never hold it together (orders %#)",
    async (block) => {
      for (let seed = 25 * block; seed < 25 * (block + 1); seed++) {
        const directory = path.join(folder, `contended-${seed}`);
        await mkdir(directory);
        const dead = { pid: 2 ** 22 + 1, host: hostname(), processStart: null };
        await writeFile(path.join(directory, "lock.json"), JSON.stringify(dead));
        let holders = 0;
        let most = 0;
        const contend = async () => {
          const release = await lockRunFolder(directory).catch(() => null);
          if (release === null) return false;
          most = Math.max(most, ++holders);
          for (let turn = 0; turn < 6; turn++) await schedule.turn();
          holders--;
          await release();
          return true;
        };
        schedule.begin(seed);
        const took = await Promise.all([contend(), contend(), contend()]);
        schedule.end();
        expect([seed, most, took.includes(true)]).toEqual([seed, 1, true]);
      }
    },
  );
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
