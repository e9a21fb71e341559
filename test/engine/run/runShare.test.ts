import { expect, it } from "vitest";
import { RunShare } from "../../../src/engine/run/runShare";
import type { Progress } from "../../../src/protocol/progress";
import type { StageId } from "../../../src/protocol/run";

/** Passes of each stage as a run reports them: what it says, its unit, and the seconds that it really takes. */
type Pass = Pick<Progress, "message" | "unit"> & {
  seconds: number;
  count?: number;
  pass?: { number: number; of: number };
};
const tokens = (message: string, seconds: number): Pass => ({ message, unit: "tokens", seconds });
const evaluation = (seconds: number[]): Pass[] =>
  seconds.map((time, i) => ({ ...tokens(`Evaluating, ${i + 1}`, time), pass: { number: i + 1, of: seconds.length } }));
const sample: [StageId, Pass[]][] = [
  [
    "profile",
    [tokens("Profiling routing", 20), { message: "Comparing the experts' weights", unit: "steps", seconds: 4 }],
  ],
  ["compress", [{ message: "Writing the compressed checkpoint", unit: "bytes", seconds: 1 }]],
  [
    "calibrate",
    [
      tokens("Running the teacher", 10),
      tokens("Running the teacher", 2),
      { message: "Training", unit: "updates", seconds: 60 },
    ],
  ],
  ["evaluate", evaluation([8, 10, 11])],
  ["report", []],
];
const alone: [StageId, Pass[]][] = [["evaluate", evaluation([5, 5])]];

/** Share and seconds left behind every report of a run, at the times they came. */
function recorded(stages: [StageId, Pass[]][], predicted: Partial<Record<StageId, number>>, resumedAt = 0) {
  let now = 100;
  const share = new RunShare(
    stages.map(([id]) => ({ id, seconds: predicted[id] ?? 0, took: null })),
    () => now,
  );
  const events: { at: number; share: number; left: number | undefined }[] = [];
  for (const [id, passes] of stages) {
    const began = now;
    share.begin(id, 0);
    for (const { seconds, count: total = 40, ...pass } of passes) {
      const from = pass.unit === "updates" ? resumedAt : 0;
      for (let done = from; done <= total; done++) {
        const run = share.behind({ ...pass, stage: id, done, total });
        events.push({ at: now - 100, share: run.share, left: run.remainingSeconds });
        now += seconds / (total + 1);
      }
    }
    share.end(id, now - began);
  }
  return { events, seconds: now - 100 };
}

const right = { profile: 24, compress: 1, calibrate: 72, evaluate: 29, report: 0.1 };
const times = (factor: number) => Object.fromEntries(Object.entries(right).map(([id, time]) => [id, time * factor]));
it.each<[string, [StageId, Pass[]][], Partial<Record<StageId, number>>]>([
  ["as predicted", sample, right],
  ["twice as fast as predicted", sample, times(2)],
  ["three times slower than predicted", sample, times(1 / 3)],
  ["with one stage predicted badly", sample, { ...right, calibrate: 20 }],
  ["without a prediction", sample, {}],
  ["of one stage", alone, { evaluate: 10 }],
  ["of one stage, without a prediction", alone, {}],
])("the share of a run %s only rises, from nothing to all but its last report", (_name, stages, predicted) => {
  const { events } = recorded(stages, predicted);
  const shares = events.map(({ share }) => share);
  expect(shares).toEqual([...shares].sort((a, b) => a - b));
  expect(shares[0]).toBe(0);
  expect(shares.at(-1)).toBeGreaterThan(stages === alone ? 0.9 : 0.75);
  expect(shares.at(-1)).toBeLessThanOrEqual(1);
});

it.each([1, 1.5, 0.7, 3])(
  "at half way the time left is within 30 %% of what it takes, times predicted %s-fold",
  (factor) => {
    const { events, seconds } = recorded(sample, times(factor));
    const half = events.find(({ at }) => at >= seconds / 2)!;
    expect(half.left! / (seconds - half.at)).toBeGreaterThan(0.7);
    expect(half.left! / (seconds - half.at)).toBeLessThan(1.3);
  },
);

const halfWay = (calibrate: number) => ({ predicted: [20, calibrate], profile: 20, from: 0.5, within: 1.5 });
it.each<[string, { predicted: number[]; profile: number; from: number; within: number }]>([
  // Hours were once made of minutes so, by a profile of seconds on a busy machine.
  ["little of a short stage that took tenfold", { predicted: [2, 3600], profile: 20, from: 0, within: 1.1 }],
  ["a stage half as long that took tenfold", { predicted: [180, 360], profile: 1800, from: 0, within: 1.3 }],
  ["at half way its own pace, a tenth of what was predicted", halfWay(36000)],
  ["at half way its own pace, ten times as much", halfWay(360)],
])("the time left of a long training believes %s", (_name, { predicted, profile, from, within }) => {
  const training = 3600;
  const stages: [StageId, Pass[]][] = [
    ["profile", [tokens("Profiling routing", profile)]],
    ["calibrate", [{ message: "Training", unit: "updates", seconds: training, count: 640 }]],
  ];
  const { events, seconds } = recorded(stages, { profile: predicted[0]!, calibrate: predicted[1]! });
  const wrong = events
    .filter(({ at }) => at >= profile + from * training && at < profile + 0.95 * training)
    .map(({ at, left }) => left! / (seconds - at));
  expect(wrong.length).toBeGreaterThan(250);
  expect(Math.max(...wrong)).toBeLessThan(within);
  expect(Math.min(...wrong)).toBeGreaterThan(1 / within);
});

it("claims no time without a prediction", () => {
  expect(recorded(sample, {}).events.every(({ left }) => left === undefined)).toBe(true);
});
