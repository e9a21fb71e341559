import { readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { isEvaluationState } from "../../src/engine/evaluation/evaluationState";
import { createRandom } from "../../src/engine/tensor/random";
import { temporaryFolder } from "../support/temporaryFolder";
import { bundleCli, isNightly, TinyRun } from "./tinyRun";

/** Evaluations that are killed between their layers. */
const kills = isNightly ? 60 : 6;
let run: TinyRun;
let expected: Record<string, string>;

beforeAll(async () => {
  const parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  run = new TinyRun(await bundleCli(), parent);
  expect(await run.start()).toMatchObject({ code: 0 });
  expected = run.results();
}, 120_000);
afterAll(() => rmSync(run.cli, { force: true }));

/**
 * A clock on which an hour passes whenever it is read while the evaluation runs: the state is then saved behind every few
 * layers, as it is in an evaluation of hours. At a number of readings the process kills itself, at once.
 */
function clockThatKills(atReading: number): string {
  const file = path.join(temporaryFolder(), "clock.cjs");
  const evaluates = JSON.stringify(path.join(run.runDirectory, "run.json"));
  writeFileSync(
    file,
    `const fs = require("node:fs");
     const real = performance.now.bind(performance);
     let calls = 0, readings = 0;
     const isEvaluating = () => {
       try {
         const { stages } = JSON.parse(fs.readFileSync(${evaluates}, "utf8"));
         return stages.some(({ id, state }) => id === "evaluate" && state === "running");
       } catch {
         return false;
       }
     };
     performance.now = () => {
       if (readings > 0 || (++calls % 8 === 0 && isEvaluating())) readings++;
       if (readings === ${atReading}) process.kill(process.pid, "SIGKILL");
       return real() + readings * 3.6e6;
     };`,
  );
  return file;
}

it(`killed at ${kills} moments of an evaluation, a run ends with the bytes of an undisturbed one`, async () => {
  const random = createRandom(7);
  const isState = (name: string) => isEvaluationState(name, "teacher") || isEvaluationState(name, "student");
  let [killed, withState] = [0, 0];
  while (killed < kills) {
    run.reset();
    // Twice, the second time on the state that the first one left; then to the end.
    for (let attempt = 0; attempt < 2; attempt++) {
      const { signal } = await run.start({ preload: clockThatKills(5 + random.below(60)) });
      if (signal === null) break;
      expect(signal).toBe("SIGKILL");
      killed += 1;
      withState += Number(readdirSync(run.runDirectory).some(isState));
    }
    expect((await run.start()).code).toBe(0);
    expect(run.results()).toEqual(expected);
  }
  console.log(`${withState} of ${killed} attempts left a state`);
  expect(withState).toBeGreaterThan(kills / 4);
}, 600_000);
