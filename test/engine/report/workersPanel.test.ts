/** The Workers page's numbers, against a case worked by hand, and against the schema that the page checks. */
import { expect, it } from "vitest";
import { spreadOf } from "../../../src/engine/report/workersPanel";
import type { RunWorkers, TimelineLine, WorkerStatus } from "../../../src/protocol/workers";
import { workersPanelData } from "../../../src/protocol/workersPanel";

const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000).toISOString();
const tile = (worker: string, key: string, start: number, end: number, more: object = {}): TimelineLine => ({
  ...{ kind: "tile", worker, pass: "profile", tile: key, start: at(start), end: at(end) },
  bounds: { unit: "sequences", from: 0, to: 16 },
  ...{ processorSeconds: 2 * (end - start), tokens: 1000, bytes: 10, repeated: false },
  ...more,
});
const came = (worker: string, seconds: number, event: "joined" | "lost" | "left" = "joined"): TimelineLine => ({
  ...{ kind: "worker", worker, at: at(seconds), event },
});
const status = (name: string, more: Partial<WorkerStatus> = {}): WorkerStatus => ({
  ...{ name, host: "h", threads: 2, memoryBytes: 1, numerics: "n", about: "cpu", eligible: true, reason: null },
  ...{ state: "idle", tile: null, since: at(0), tiles: 0, repeated: 0, tokensPerSecond: null, ...more },
});
const run = (
  workers: WorkerStatus[],
  timeline: TimelineLine[],
  more: Partial<RunWorkers["status"]> = {},
): RunWorkers => ({
  status: {
    ...{ schemaVersion: 1, at: at(40), running: false, queue: "q", numerics: "n", about: "cpu" },
    ...{ workers, passes: [], ...more },
  },
  timeline,
});

it("efficiency: processor time of tiles, each once, over threads and time there", () => {
  const found = spreadOf(
    run(
      [
        status("w10"),
        status("w9", { state: "lost" }),
        status("other", { eligible: false, reason: "AVX2", threads: 64 }),
      ],
      [
        came("w9", -5),
        came("w10", 4),
        came("other", 0),
        tile("w9", "a", 0, 10),
        // Done a second time elsewhere: of no use.
        tile("w10", "a", 5, 15, { repeated: true }),
        came("w9", 16, "lost"),
        tile("w10", "b", 15, 20, { pass: "gradient", bounds: { unit: "batch", from: 0, to: 1 } }),
      ],
    ),
  );
  expect(workersPanelData.safeParse(found)).toMatchObject({ success: true });
  // Numbers in names count as numbers.
  expect(found.workers.map(({ name }) => name)).toEqual(["other", "w9", "w10"]);
  expect(found.seconds).toBe(20);
  // w9 was there from the first tile (0) until it was lost (16); w10 from 4 to the last tile's end (20).
  expect(found.workers.slice(1)).toMatchObject([
    { presentSeconds: 16, tileSeconds: 10, processorSeconds: 20, tiles: 1, repeated: 0, reason: null, state: "lost" },
    { presentSeconds: 16, tileSeconds: 15, processorSeconds: 10, tiles: 2, repeated: 1 },
  ]);
  expect(found.workers[0]).toMatchObject({ reason: "AVX2", tiles: 0 });
  expect(found.efficiency).toBeCloseTo(30 / (2 * 32), 12);
  expect(found.busy).toBeCloseTo(25 / 32, 12);
  expect(found.events).toContainEqual({ worker: 1, at: 16, event: "lost" });
  expect(found.tiles).toMatchObject({
    ...{ worker: [1, 2, 2], pass: [0, 0, 1], start: [0, 5, 15], seconds: [10, 10, 5], repeated: [0, 1, 0] },
    ...{ unit: [0, 0, 1], to: [16, 16, 1] },
  });
  expect(found.units).toEqual(["sequences", "batch"]);
  // The status knew no pass: they are those of the timeline.
  expect(found.passes).toEqual([
    { pass: "profile", done: 2, left: 0, repeated: 1, tileSeconds: 20, wallSeconds: 15 },
    { pass: "gradient", done: 1, left: 0, repeated: 0, tileSeconds: 5, wallSeconds: 5 },
  ]);
});

it("a run that was stopped and resumed: nobody was there in between", () => {
  const found = spreadOf(
    run([status("w")], [came("w", 0), tile("w", "a", 0, 10), came("w", 1000), tile("w", "b", 1001, 1006)]),
  );
  expect(found.workers[0]).toMatchObject({ presentSeconds: 16, tileSeconds: 15 });
  expect(found.busy).toBeCloseTo(15 / 16, 12);
});

it("a run at work lasts until now; one before its first tile has no shares", () => {
  const working = spreadOf(
    run(
      [status("w", { state: "working", tile: { pass: "profile", bounds: { unit: "sequences", from: 8, to: 24 } } })],
      [came("w", 0), tile("w", "a", 0, 10)],
      { running: true },
    ),
  );
  expect(working).toMatchObject({ running: true, seconds: 40, busy: 0.25 });
  expect(working.workers[0]).toMatchObject({ presentSeconds: 40, tile: "profile, sequences 8 to 24" });
  expect(spreadOf(run([status("w")], [came("w", 0)]))).toMatchObject({ seconds: 0, efficiency: null, busy: null });
});

it("workers whose coming was taken away with older lines, and of whom nothing else is known, are counted by their tiles", () => {
  const found = spreadOf(run([], [tile("gone", "a", 0, 10), tile("gone", "b", 12, 20)]));
  expect(found.workers).toMatchObject([
    { name: "gone", threads: 0, presentSeconds: 20, tileSeconds: 18, state: "left" },
  ]);
  expect(found.efficiency).toBeNull();
});

it("says which part of the layers a worker keeps to, and a tile is of", () => {
  const inHand = { pass: "profile", bounds: { unit: "sequences", from: 16, to: 32 }, layers: "2/4" } as const;
  const found = spreadOf(
    run(
      [status("a", { layers: "2/4", tile: inHand }), status("b")],
      [tile("a", "x", 0, 1, { layers: "2/4" }), tile("b", "y", 1, 2)],
    ),
  );
  expect(workersPanelData.safeParse(found)).toMatchObject({ success: true });
  expect(found.workers.map(({ layers, tile: of }) => [layers, of])).toEqual([
    ["2/4", "profile, layers 2/4, sequences 16 to 32"],
    [null, null],
  ]);
  expect(found.tiles.unit.map((unit) => found.units[unit])).toEqual(["layers 2/4, sequences", "sequences"]);
});
