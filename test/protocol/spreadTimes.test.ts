/** What a run takes on n machines, against cases worked by hand. */
import { expect, it } from "vitest";
import { batchParts, leafTiles, spreadsUpdates } from "../../src/engine/run/tiles/tileCuts";
import { calibrateOptions } from "../../src/protocol/calibrateOptions";
import { spreadLimits, spreadSeconds, workersWorthTrying } from "../../src/protocol/spreadTimes";

const stage = (seconds: number, ...spread: { seconds: number; parts: number; limit: string }[]) => ({
  ...{ stage: "profile" as const, seconds, peakMemoryBytes: 0, assumption: "" },
  ...(spread.length > 0 ? { spread } : {}),
});
const profile = stage(50, { seconds: 47, parts: 47, limit: "47 tiles" });
const calibrate = { ...stage(100, { seconds: 80, parts: 8, limit: "a batch of 8" }), stage: "calibrate" as const };
const report = { ...stage(2), stage: "report" as const };
const stages = [profile, calibrate, report];

it.each([
  [1, 152],
  // 24 of 47 rounds; 4 of 8; the rest alone.
  [2, 3 + 24 + 20 + 40 + 2],
  [3, 3 + 16 + 20 + 30 + 2],
  [8, 3 + 6 + 20 + 10 + 2],
  [47, 3 + 1 + 20 + 10 + 2],
  [1000, 36],
])("%i workers: parts go out in rounds", (workers, seconds) => {
  expect(spreadSeconds(stages, workers)).toBeCloseTo(seconds, 9);
});

it("as many workers as help, and what holds a run up then", () => {
  expect(workersWorthTrying(stages)).toEqual([1, 2, 4, 8, 16, 32, 47]);
  expect(workersWorthTrying([report])).toEqual([1]);
  expect(spreadLimits(stages)).toEqual([
    { stage: "calibrate", limit: "this machine does most of it alone; a batch of 8", share: 30 / 36 },
    { stage: "profile", limit: "this machine does most of it alone; 47 tiles", share: 4 / 36 },
    { stage: "report", limit: "this machine does most of it alone", share: 2 / 36 },
  ]);
});

it("tiles as the documents count them", () => {
  expect(leafTiles(3000, 512).length).toBe(47);
  expect([1, 8, 16, 17, 24, 32, 33].map((batch) => batchParts(batch).length)).toEqual([1, 8, 16, 9, 12, 16, 9]);
  const options = (more: object) => calibrateOptions.parse(more);
  expect(spreadsUpdates(options({}))).toBe(true);
  expect(spreadsUpdates(options({ loss: "router-logits" }))).toBe(false);
  expect(spreadsUpdates(options({ scope: "router+experts" }))).toBe(false);
});
