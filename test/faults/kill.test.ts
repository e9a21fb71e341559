import { rmSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createRandom } from "../../src/engine/tensor/random";
import { temporaryFolder } from "../support/temporaryFolder";
import { bundleCli, isNightly, TinyRun } from "./tinyRun";

const kills = isNightly ? 100 : 10;
let run: TinyRun;
let expected: Record<string, string>;
let undisturbedMs = 0;

beforeAll(async () => {
  const parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  run = new TinyRun(await bundleCli(), parent);
  const started = performance.now();
  const { code, stderr } = await run.start();
  expect([code, stderr]).toEqual([0, expect.anything()]);
  undisturbedMs = performance.now() - started;
  expected = run.results();
}, 120_000);
afterAll(() => rmSync(run.cli, { force: true }));

test("an undisturbed run is what it is compared with: complete, and the same again", async () => {
  const wanted = ["model.safetensors", "reroute.json", "compression-plan.json", "routing-statistics.safetensors"];
  expect(Object.keys(expected)).toEqual(expect.arrayContaining([...wanted, "train-state.safetensors"]));
  expect(expected["metrics.jsonl"]!.split("\n").length).toBeGreaterThan(8);
  run.reset();
  expect(await run.start()).toMatchObject({ code: 0 });
  expect(run.results()).toEqual(expected);
}, 120_000);

test(`killed at ${kills} random instants, a run ends with the bytes of an undisturbed one`, async () => {
  const random = createRandom(51);
  const stages = new Set<string>();
  for (let killed = 0; killed < kills;) {
    run.reset();
    for (let isDone = false; !isDone;) {
      const after = killed < kills ? random.below(Math.ceil(undisturbedMs)) : null;
      let timer: NodeJS.Timeout | undefined;
      const { code, signal, stderr } = await run.start({
        onStart: (pid) => {
          if (after !== null) timer = setTimeout(() => process.kill(pid, "SIGKILL"), after);
        },
      });
      clearTimeout(timer);
      isDone = signal === null;
      if (isDone) expect([code, stderr]).toEqual([0, expect.anything()]);
      else {
        killed += 1;
        stages.add(run.stage() ?? "outside stages");
      }
    }
    expect(run.results()).toEqual(expected);
  }
  // The instants are spread: no use in killing the same stage a hundred times.
  expect(stages.size).toBeGreaterThanOrEqual(3);
}, 3_600_000);
