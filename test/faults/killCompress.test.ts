import { beforeAll, expect, test } from "vitest";
import { createRandom } from "../../src/engine/tensor/random";
import { temporaryFolder } from "../support/temporaryFolder";
import { spreadSteps, stepKiller } from "./killAtStep";
import { daily, isNightly } from "../support/nightly";
import { bundleCli, filesBelow, killAtSteps, TinyRun } from "./tinyRun";

const kills = isNightly ? 25 : 2;
let cli = "";
let parent = "";
beforeAll(async () => {
  parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  cli = await bundleCli();
});

/** One method of each kind of work between layers, and MoBE, whose optimiser goes on in the middle of a projection. */
const rows: { method: string; options: Record<string, unknown>; file: RegExp }[] = [
  { method: "hc-smoe", options: { router: "map" }, file: /compress-state.layer-\d+\.json$/ },
  { method: "mobe", options: { steps: 1600 }, file: /compress-state.mobe-\d+-(gate|up)Proj\.safetensors$/ },
  { method: "ream", options: {}, file: /compress-state.layer-\d+\.json$/ },
  { method: "svd-llm", options: { output: "factored" }, file: /compress-state.layer-\d+\.json$/ },
];

test.each(daily(2, rows))(
  `$method killed in the middle of compression ends with the bytes of an undisturbed one`,
  async ({ method, options, file }) => {
    // Profile and compression alone: the steps of the other stages are killed in kill.test.ts.
    const more = { compress: { method, keep: 0.75, options }, calibrate: undefined };
    const run = new TinyRun(cli, parent, more);
    const killer = stepKiller();
    expect(await run.start({ preload: killer.preload })).toMatchObject({ code: 0 });
    const expected = run.results();
    expect(Object.keys(expected)).toEqual(expect.arrayContaining(["model.safetensors", "compression-plan.json"]));
    run.reset();
    const random = createRandom(52);
    // Right behind files to go on from; the last kill meets what the one before it left.
    const behind = killer.behind(file);
    const steps = spreadSteps(kills, behind.length, (n) => random.below(n)).map((i) => behind[i - 1]!);
    let withState = 0;
    await killAtSteps(run, killer, steps, expected, () => {
      if (filesBelow(run.runDirectory).some((name) => file.test(name))) withState++;
    });
    expect(withState).toBeGreaterThan(0);
  },
  1_200_000,
);

test("a pipeline killed anywhere ends with the bytes of an undisturbed one, those of its steps among them", async () => {
  const steps = [
    { compress: { method: "reap", keep: 0.75 } },
    { compress: { method: "neurons", keep: 0.5, options: { multiple: 4, sequences: 4 } } },
    { calibrate: { batch: 4, learningRate: 5e-3, heldOut: 0.2, evaluateEvery: 2 } },
    { compress: { method: "gptq", options: { bits: 4, group: 4, sequences: 4 } } },
  ];
  const run = new TinyRun(cli, parent, { compress: undefined, calibrate: undefined, steps });
  const killer = stepKiller();
  expect(await run.start({ preload: killer.preload })).toMatchObject({ code: 0 });
  const [expected, total] = [run.results(), killer.steps()];
  const written = Object.keys(expected);
  for (const step of ["1-reap", "2-neurons", "3-calibrate"]) {
    expect(written).toContain(`steps/${step}/checkpoint/model.safetensors`);
  }
  run.reset();
  const random = createRandom(53);
  // In a later step; by night anywhere.
  const at = isNightly ? spreadSteps(kills, total, (n) => random.below(n)) : [Math.round(0.6 * total)];
  const begun = new Set<string>();
  await killAtSteps(run, killer, at, expected, () => {
    for (const name of filesBelow(run.runDirectory)) begun.add(name.split("/").slice(0, 2).join("/"));
  });
  // A kill met the steps at work.
  expect([...begun].filter((name) => name.startsWith("steps/")).length).toBeGreaterThan(0);
}, 1_200_000);
