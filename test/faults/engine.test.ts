import { rmSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { EngineClient } from "../../src/extension/engine/client";
import { errorCodeOf } from "../../src/protocol/errors";
import { createRandom } from "../../src/engine/tensor/random";
import { temporaryFolder } from "../support/temporaryFolder";
import { bundleEngine, isNightly, TinyRun } from "./tinyRun";

const kills = isNightly ? 100 : 8;
let script: string;
let run: TinyRun;

beforeAll(async () => {
  script = await bundleEngine();
  const parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  run = new TinyRun("", parent);
}, 60_000);
afterAll(() => rmSync(script, { force: true }));

it(`the extension's engine, killed at ${kills} random instants, starts again and ends with the same bytes`, async () => {
  const log: string[] = [];
  const client = new EngineClient({ script, host: "test", idleMs: 60_000, log: (_level, line) => log.push(line) });
  try {
    // As the extension does it: the run is started, and continued with run/resume once its folder is there.
    const goOn = () =>
      run.stage() === null
        ? client.request("run/start", run.request())
        : client.request("run/resume", { runDirectory: run.runDirectory });
    const started = performance.now();
    await goOn();
    const undisturbedMs = performance.now() - started;
    const expected = run.results();

    const random = createRandom(77);
    const stages = new Set<string>();
    for (let killed = 0; killed < kills;) {
      run.reset();
      for (let isDone = false; !isDone;) {
        let timer: NodeJS.Timeout | undefined;
        if (killed < kills) {
          timer = setTimeout(
            () => {
              stages.add(run.stage() ?? "outside stages");
              if (client.pids.job !== undefined) process.kill(client.pids.job, "SIGKILL");
            },
            random.below(Math.ceil(undisturbedMs)),
          );
        }
        try {
          await goOn();
          isDone = true;
        } catch (error) {
          // What every caller is told, the one whose request was under way included.
          expect(errorCodeOf(error)).toBe("engine/closed");
          expect(client.getState().state).toBe("crashed");
          killed += 1;
        } finally {
          clearTimeout(timer);
        }
      }
      expect(client.getState().state).toBe("ready");
      expect(run.results()).toEqual(expected);
    }
    expect(stages.size).toBeGreaterThanOrEqual(2);
  } finally {
    client.dispose();
  }
}, 3_600_000);
