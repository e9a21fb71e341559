import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import type { RoutingObserver } from "../../../src/engine/execution/observer";
import { profileCheckpoint } from "../../../src/engine/execution/profile";
import { leavesOf } from "../../../src/engine/execution/leaves";
import { hiddenNames } from "../../../src/engine/execution/passState";
import type { TokenSequences } from "../../../src/engine/data/sequences";
import { RoutingStatistics } from "../../../src/engine/routing/collect";
import { profileSums } from "../../../src/engine/routing/profileSums";
import { TokenSampler } from "../../../src/engine/routing/tokenSampler";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { saveRoutingStatistics } from "../../../src/engine/routing/statisticsFile";
import { goldenCheckpoint } from "../../support/goldens";
import { daily, isNightly } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences } from "../../support/tinyModels";

const sequenceLength = 10;
const options = { lengths: [10, 7, 10, 4, 10, 10, 9], domains: ["prose", "code"], vocabSize: 100 };
const leaves = leavesOf(sequenceLength, { leaf: 10, block: 20 });
const sequences = randomSequences(5, 7, sequenceLength, options);

interface Attempt {
  shardTokens?: number;
  /** Stops at this observation, as a kill would: what was saved stays. */
  stopAt?: number;
  text?: TokenSequences;
}

/** Profiles of one model in one state folder, each a process's attempt. */
async function profiler(family: string) {
  const model = await openModel(goldenCheckpoint(family));
  const folder = temporaryFolder();
  const stateFile = path.join(folder, "profile-state.safetensors");
  // Nothing fits, so every sequence is a chunk of its own.
  const memoryBudgetBytes = 1;
  const attempt = async ({ shardTokens = 20, stopAt = Infinity, text = sequences }: Attempt) => {
    const statistics = new RoutingStatistics({
      checkpoint: "golden",
      fingerprint: model.fingerprint,
      sequences: text,
      renormalises: false,
      leaves,
    });
    const sampler = new TokenSampler(text, moeLayers(model.description).length);
    let observed = 0;
    const observer: RoutingObserver = {
      observe: (observation) => {
        if (++observed > stopAt) throw new Error("stopped");
        statistics.observe(observation);
        sampler.observe(observation);
      },
    };
    const work = profileCheckpoint({
      ...model,
      sequences: text,
      observer,
      collectOutputs: true,
      runtime: { threads: 1, provider: "cpu", memoryBudgetBytes },
      scratchDirectory: folder,
      resume: { identity: model.fingerprint, ...profileSums(stateFile, statistics, model.description, sampler) },
      saveEverySeconds: 0,
      shardTokens,
      leaves,
    });
    const isDone = await work.then(
      () => true,
      (error: unknown) => {
        if ((error as Error).message === "stopped") return false;
        throw error;
      },
    );
    const file = path.join(temporaryFolder(), "statistics");
    if (isDone)
      await saveRoutingStatistics(file, { ...statistics.result(), samples: sampler.result((ids) => ids.map(String)) });
    return { isDone, observed, sha256: isDone ? createHash("sha256").update(readFileSync(file)).digest("hex") : "" };
  };
  const hiddenFiles = () => readdirSync(folder).filter((name) => hiddenNames("profile").test(name));
  const forget = () => readdirSync(folder).forEach((name) => rmSync(path.join(folder, name)));
  return { attempt, hiddenFiles, forget, folder };
}

describe.each(daily(1, ["deepseek_v3", "qwen3_moe"]))("a profile of %s", (family) => {
  it("in shards gives the bytes of one in one go", async () => {
    const { attempt, forget } = await profiler(family);
    const { sha256, observed } = await attempt({ shardTokens: 1000 });
    for (const shardTokens of daily(2, [20, 40, 60])) {
      forget();
      expect(await attempt({ shardTokens })).toEqual({ isDone: true, observed, sha256 });
    }
  });

  it("that was stopped anywhere goes on behind its last layer, to the same bytes", async () => {
    const { attempt, forget, hiddenFiles } = await profiler(family);
    const whole = await attempt({});
    for (let stopAt = 1; stopAt < whole.observed; stopAt += isNightly ? 1 : 9) {
      forget();
      expect((await attempt({ stopAt })).isDone).toBe(false);
      expect(hiddenFiles().length).toBeLessThanOrEqual(1);
      const again = await attempt({});
      expect(again.sha256).toBe(whole.sha256);
      // Only the layer that was under way is done again: two chunks at most, and one that was being observed.
      expect(again.observed + stopAt).toBeLessThan(whole.observed + 3);
    }
  });

  it("that is stopped again and again gets there all the same", async () => {
    const { attempt, forget } = await profiler(family);
    const whole = await attempt({});
    forget();
    let attempts = 1;
    const stopAt = isNightly ? 3 : 6;
    let last = await attempt({ stopAt });
    for (; !last.isDone; attempts++) last = await attempt({ stopAt });
    expect(attempts).toBeGreaterThan(2);
    expect(last.sha256).toBe(whole.sha256);
  });
});

it.each<[string, (folder: string, hidden: string) => void]>([
  ["hidden states that are gone", (folder, hidden) => rmSync(path.join(folder, hidden))],
  ["a state that is gone", (folder) => rmSync(path.join(folder, "profile-state.safetensors"))],
])("with %s it begins anew, and adds nothing twice", async (_name, damage) => {
  const { attempt, forget, hiddenFiles, folder } = await profiler("qwen3_moe");
  const whole = await attempt({});
  forget();
  await attempt({ stopAt: 9 });
  damage(folder, hiddenFiles()[0]!);
  expect(await attempt({})).toEqual(whole);
});

it("does not go on with another text, or with other shards", async () => {
  const { attempt, forget } = await profiler("qwen3_moe");
  const other = randomSequences(6, 7, sequenceLength, options);
  const wholeOfOther = await attempt({ text: other });
  forget();
  await attempt({ stopAt: 9 });
  expect(await attempt({ text: other })).toEqual(wholeOfOther);
  forget();
  const whole = await attempt({});
  forget();
  await attempt({ stopAt: 9 });
  expect(await attempt({ shardTokens: 40 })).toEqual(whole);
});
