import { beforeAll, expect, test } from "vitest";
import { createRandom } from "../../src/engine/tensor/random";
import { temporaryFolder } from "../support/temporaryFolder";
import { spreadSteps, stepKiller } from "./killAtStep";
import { isNightly } from "../support/nightly";
import { bundleCli, killAtSteps, TinyRun } from "./tinyRun";

const kills = isNightly ? 100 : 4;
const killer = stepKiller();
let run: TinyRun;
let expected: Record<string, string>;

beforeAll(async () => {
  const parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  run = new TinyRun(await bundleCli(), parent);
  const { code, stderr } = await run.start({ preload: killer.preload });
  expect([code, stderr]).toEqual([0, expect.anything()]);
  expected = run.results();
});

test("an undisturbed run is what it is compared with: complete, and the same again", async () => {
  const wanted = ["model.safetensors", "reroute.json", "compression-plan.json", "routing-statistics.safetensors"];
  expect(Object.keys(expected)).toEqual(expect.arrayContaining([...wanted, "train-state.safetensors"]));
  expect(expected["metrics.jsonl"]!.split("\n").length).toBeGreaterThan(8);
  run.reset();
  expect(await run.start()).toMatchObject({ code: 0 });
  expect(run.results()).toEqual(expected);
});

test(`killed before ${kills} of its steps at the disk, a run ends with the bytes of an undisturbed one`, async () => {
  // run.json, weights, plan, routers after each update, evaluation, report: dozens at the least.
  expect(killer.steps()).toBeGreaterThan(50);
  run.reset();
  const random = createRandom(51);
  let killed = 0;
  const steps = spreadSteps(kills, killer.steps(), (n) => random.below(n));
  await killAtSteps(run, killer, steps, expected, () => killed++);
  expect(killed).toBeGreaterThan(0);
});
