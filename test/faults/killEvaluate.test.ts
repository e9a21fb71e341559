import { spawn } from "node:child_process";
import { cpSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { isEvaluationState } from "../../src/engine/evaluation/evaluationState";
import type { ModelEvaluation } from "../../src/protocol/evaluation";
import { createRandom } from "../../src/engine/tensor/random";
import { temporaryFolder } from "../support/temporaryFolder";
import { isNightly } from "../support/nightly";
import { bundleCli, filesBelow, TinyRun } from "./tinyRun";

/** Evaluations that are killed between their layers. */
const kills = isNightly ? 60 : 4;
let run: TinyRun;
let expected: Record<string, string>;

beforeAll(async () => {
  const parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  run = new TinyRun(await bundleCli(), parent);
  expect(await run.start()).toMatchObject({ code: 0 });
  expected = run.results();
  cpSync(run.output, path.join(parent, "student"), { recursive: true });
});

/**
 * A clock on which an hour passes whenever it is read while the evaluation runs: the state is then saved behind every few
 * layers, as it is in an evaluation of hours. At a number of readings the process kills itself, at once.
 *
 * @param isEvaluating JavaScript that says so
 */
function clockThatKills(isEvaluating: string, atReading: number): string {
  const file = path.join(temporaryFolder(), "clock.cjs");
  writeFileSync(
    file,
    `const fs = require("node:fs");
     const real = performance.now.bind(performance);
     let calls = 0, readings = 0;
     const isEvaluating = () => {
       try {
         return ${isEvaluating};
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

const isState = (name: string) => isEvaluationState(name, "teacher") || isEvaluationState(name, "student");

it("killed at moments of an evaluation, a run ends with the bytes of an undisturbed one", async () => {
  const wanted = isNightly ? kills : 2;
  const random = createRandom(7);
  const record = JSON.stringify(path.join(run.runDirectory, "run.json"));
  const evaluates =
    `JSON.parse(fs.readFileSync(${record}, "utf8"))` +
    `.stages.some(({ id, state }) => id === "evaluate" && state === "running")`;
  let [killed, withState] = [0, 0];
  while (killed < wanted) {
    run.reset();
    // Twice, the second time on the state that the first one left; then to the end.
    for (let attempt = 0; attempt < 2; attempt++) {
      const { signal } = await run.start({ preload: clockThatKills(evaluates, 5 + random.below(60)) });
      if (signal === null) break;
      expect(signal).toBe("SIGKILL");
      killed += 1;
      withState += Number(readdirSync(run.runDirectory).some(isState));
    }
    expect((await run.start()).code).toBe(0);
    expect(run.results()).toEqual(expected);
  }
  console.log(`${withState} of ${killed} attempts left a state`);
  expect(withState).toBeGreaterThan(wanted / 4);
});

/** `reroute evaluate` of the run's student against its teacher, in a working folder; what it prints, without measured cost. */
async function evaluateAlone(folder: string, preload: string | null = null) {
  const paths = [path.join(run.parent, "student"), "--teacher", path.join(run.parent, "teacher")];
  const text = ["--data", path.join(run.parent, "evaluation.jsonl"), "--sequences", "6", "--sequence-length", "24"];
  const child = spawn(
    process.execPath,
    [...(preload === null ? [] : ["--require", preload]), run.cli, "evaluate", ...paths, ...text, "--json"],
    { cwd: folder, stdio: ["ignore", "pipe", "pipe"] },
  );
  let stdout = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => (stdout += part));
  child.stderr.resume();
  const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal }));
  });
  const result = code === 0 ? (JSON.parse(stdout) as ModelEvaluation) : null;
  if (result) Object.assign(result.cost, { tokensPerSecond: 0, tokensPerSecondQuartiles: null, peakMemoryBytes: 0 });
  return { code, signal, result: JSON.stringify(result) };
}

it(`reroute evaluate killed at ${kills} moments goes on to the same bytes, and keeps no state behind`, async () => {
  const folder = temporaryFolder();
  const whole = await evaluateAlone(folder);
  expect(whole.code).toBe(0);
  const [name] = readdirSync(path.join(folder, ".reroute/runs"));
  const runDirectory = path.join(folder, ".reroute/runs", name!);
  const files = readdirSync(runDirectory);
  expect(files).toContain("evaluation.json");
  const record = JSON.stringify(path.join(runDirectory, "run.json"));
  const evaluates =
    `JSON.parse(fs.readFileSync(${record}, "utf8"))` +
    `.stages.some(({ id, state }) => id === "evaluate" && state === "running")`;
  const random = createRandom(11);
  let [killed, withState] = [0, 0];
  while (killed < kills) {
    rmSync(runDirectory, { recursive: true });
    for (let attempt = 0; attempt < 2; attempt++) {
      const { signal } = await evaluateAlone(folder, clockThatKills(evaluates, 3 + random.below(50)));
      if (signal === null) break;
      expect(signal).toBe("SIGKILL");
      killed += 1;
      withState += Number(filesBelow(runDirectory).some((file) => isState(path.basename(file))));
    }
    const again = await evaluateAlone(folder);
    expect([again.code, again.result]).toEqual([0, whole.result]);
    expect(readdirSync(runDirectory)).toEqual(files);
  }
  console.log(`${withState} of ${killed} attempts left a state`);
  expect(withState).toBeGreaterThan(kills / 4);
});
