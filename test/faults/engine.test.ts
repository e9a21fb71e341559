import { afterEach, beforeAll, expect, it } from "vitest";
import { EngineClient } from "../../src/extension/engine/client";
import { errorCodeOf } from "../../src/protocol/errors";
import { createRandom } from "../../src/engine/tensor/random";
import { temporaryFolder } from "../support/temporaryFolder";
import { spreadSteps, stepKiller } from "./killAtStep";
import { isNightly } from "../support/nightly";
import { bundleEngine, TinyRun } from "./tinyRun";

const kills = isNightly ? 100 : 2;
const killer = stepKiller();
let script: string;
let run: TinyRun;

beforeAll(async () => {
  script = await bundleEngine();
  const parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  run = new TinyRun("", parent);
});
afterEach(() => {
  delete process.env["NODE_OPTIONS"];
  process.env[killer.variable] = "";
});

it(`the extension's engine, killed before ${kills} of its steps at the disk, starts again and ends with the same bytes`, async () => {
  process.env["NODE_OPTIONS"] = `--require ${killer.preload}`;
  const newClient = () => new EngineClient({ script, host: "test", idleMs: 60_000, log: () => undefined });
  // As the extension does it: the run is started, and continued with run/resume once its folder is there.
  const goOn = (client: EngineClient) =>
    run.stage() === null
      ? client.request("run/start", run.request())
      : client.request("run/resume", { runDirectory: run.runDirectory });
  let client = newClient();
  await goOn(client);
  const expected = run.results();
  client.dispose();
  while (killer.steps() === 0) await new Promise((resolve) => setTimeout(resolve, 50));

  const random = createRandom(77);
  for (const step of spreadSteps(kills, killer.steps(), (n) => random.below(n))) {
    run.reset();
    client = newClient();
    try {
      process.env[killer.variable] = String(step);
      const error: unknown = await goOn(client).then(
        () => null,
        (reason: unknown) => reason,
      );
      // What every caller is told, the one whose request was under way included.
      expect(errorCodeOf(error)).toBe("engine/closed");
      expect(client.getState().state).toBe("crashed");
      process.env[killer.variable] = "";
      await goOn(client);
      expect(client.getState().state).toBe("ready");
      expect(run.results()).toEqual(expected);
    } finally {
      client.dispose();
    }
  }
});
