import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { keyed, type Tile, type TileResult } from "../../../src/engine/run/tiles/tile";
import { readRunWorkers, TimelineFile } from "../../../src/engine/run/tiles/timelineFile";
import { TileWatch, type SeenWorker } from "../../../src/engine/run/tiles/tileWatch";
import { temporaryFolder } from "../../support/temporaryFolder";

const hash = "0123456789abcdef".repeat(4);

function tileOf(from: number): Tile {
  return keyed({
    ...{ kind: "profile", folder: "/run/tiles", numerics: hash, text: { name: "text-1.safetensors", sha256: hash } },
    ...{ model: { path: "/teacher", fingerprint: "f" }, from, to: from + 16, renormalises: true },
  });
}

function resultOf(tile: Tile, worker: string, seconds: number): TileResult {
  return { key: tile.key, bytes: 10, sha256: hash, worker, seconds, tokens: 100, processorMs: 500, attempts: 1 };
}

function workerOf(name: string, beat: number, more: Partial<SeenWorker> = {}): SeenWorker {
  return {
    ...{ name, host: "h", threads: 1, memoryBytes: 1, numerics: hash.slice(0, 12), about: "CPU" },
    ...{ eligible: true, reason: null, tile: null, tokensPerSecond: null, beat, ...more },
  };
}

describe("what a coordinator tells of its workers", () => {
  const watchAt = () => {
    const directory = temporaryFolder();
    const clock = { ms: Date.parse("2026-01-01T00:00:00Z") };
    const watch = new TileWatch({ directory, queue: "q", numerics: hash, about: "CPU", now: () => clock.ms });
    return { directory, clock, watch };
  };

  it("is in the run folder: tiles that are done, left and repeated, by whom and when", async () => {
    const { directory, clock, watch } = watchAt();
    const tiles = [0, 16, 32].map(tileOf);
    watch.see([workerOf("a", 1), workerOf("b", 1, { eligible: false, reason: "other bits" })]);
    for (const tile of tiles) watch.asked(tile);
    clock.ms += 5000;
    watch.done(tiles[0]!, resultOf(tiles[0]!, "a", 2), 1);
    watch.done(tiles[1]!, resultOf(tiles[1]!, "a", 3), 3);
    await watch.close();
    const { status, timeline } = (await readRunWorkers(directory))!;
    expect(status).toMatchObject({ running: false, queue: "q", numerics: hash.slice(0, 12) });
    expect(status.passes).toEqual([{ pass: "profile", done: 2, left: 1, repeated: 2, tileSeconds: 5, wallSeconds: 5 }]);
    expect(
      status.workers.map(({ name, tiles: done, repeated, eligible, reason }) => [
        name,
        done,
        repeated,
        eligible,
        reason,
      ]),
    ).toEqual([
      ["a", 2, 1, true, null],
      ["b", 0, 0, false, "other bits"],
    ]);
    expect(timeline.slice(2)).toMatchObject([
      {
        ...{ kind: "tile", worker: "a", pass: "profile", bounds: { unit: "sequences", from: 0, to: 16 } },
        ...{ start: "2026-01-01T00:00:03.000Z", end: "2026-01-01T00:00:05.000Z", processorSeconds: 0.5 },
        repeated: false,
      },
      { bounds: { unit: "sequences", from: 16, to: 32 }, repeated: true },
    ]);
  });

  it.each([
    ["left", 15, []],
    ["lost", 61, [workerOf("a", 1)]],
    ["lost", 46, []],
    ["idle", 61, [workerOf("a", 2)]],
  ] as const)("calls a worker %s after %i seconds, by what the queue still knows of it", (state, seconds, there) => {
    const { clock, watch } = watchAt();
    watch.see([workerOf("a", 1)]);
    clock.ms += seconds * 1000;
    watch.see(there);
    expect(watch.status(true).workers[0]).toMatchObject({ name: "a", state });
  });

  it("counts a tile once, however often it is asked for, and goes on where another coordinator ended", async () => {
    const { directory, clock, watch } = watchAt();
    const tiles = [0, 16, 32].map(tileOf);
    const [first, second, third] = tiles as [Tile, Tile, Tile];
    // As each student asks for its teacher's tiles.
    for (const result of [resultOf(first, "a", 2), null, null]) {
      watch.asked(first);
      clock.ms += 2000;
      watch.done(first, result, result === null ? 0 : 1);
    }
    watch.asked(second);
    watch.dropped(second);
    await watch.close();
    clock.ms += 3_600_000;
    const next = await TileWatch.open({ ...watch.options, now: () => clock.ms });
    for (const tile of tiles) next.asked(tile);
    clock.ms += 1000;
    next.done(first, null, 0);
    next.done(second, resultOf(second, "b", 1), 1);
    // Its file was damaged meanwhile, and had been counted.
    next.asked(first);
    next.done(first, resultOf(first, "b", 1), 1);
    next.done(third, null, 0);
    await next.close();
    const { status, timeline } = (await readRunWorkers(directory))!;
    expect(status.passes).toEqual([{ pass: "profile", done: 3, left: 0, repeated: 1, tileSeconds: 4, wallSeconds: 7 }]);
    expect(timeline.map((line) => line.kind === "tile" && [line.worker, line.repeated])).toEqual([
      ["a", false],
      ["b", false],
      ["b", true],
    ]);
  });

  it("is null of a run that was never spread", async () => {
    expect(await readRunWorkers(temporaryFolder())).toBeNull();
  });
});

it("a timeline keeps its latest lines, and reads around one that was cut short", async () => {
  const directory = temporaryFolder();
  const file = new TimelineFile(directory, 5);
  for (let i = 0; i < 23; i++) file.append({ kind: "worker", worker: `w${i}`, at: "2026-01-01", event: "joined" });
  await file.written();
  const name = path.join(directory, "workers.jsonl");
  expect(existsSync(name)).toBe(true);
  const lines = readFileSync(name, "utf8").trimEnd().split("\n");
  expect(lines.length).toBeLessThanOrEqual(10);
  expect(lines.at(-1)).toContain('"w22"');
});
