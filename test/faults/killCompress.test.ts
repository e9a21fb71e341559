import { existsSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createRandom } from "../../src/engine/tensor/random";
import { temporaryFolder } from "../support/temporaryFolder";
import { bundleCli, isNightly, TinyRun } from "./tinyRun";

const kills = isNightly ? 25 : 5;
let cli = "";
let parent = "";
beforeAll(async () => {
  parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  cli = await bundleCli();
}, 120_000);
afterAll(() => rmSync(cli, { force: true }));

/** One method of each kind of work between layers, and MoBE, whose optimiser goes on in the middle of a projection. */
const rows: { method: string; options: Record<string, unknown>; file: RegExp }[] = [
  { method: "hc-smoe", options: { router: "map" }, file: /^layer-\d+\.json$/ },
  { method: "ream", options: {}, file: /^layer-\d+\.json$/ },
  { method: "svd-llm", options: { output: "factored" }, file: /^layer-\d+\.json$/ },
  { method: "mobe", options: { steps: 1600 }, file: /^mobe-\d+-(gate|up)Proj\.safetensors$/ },
];

test.each(rows)(
  `$method killed in the middle of compression ends with the bytes of an undisturbed one`,
  async ({ method, options, file }) => {
    const run = new TinyRun(cli, parent, { compress: { method, keep: 0.75, options }, calibrate: undefined });
    expect(await run.start()).toMatchObject({ code: 0 });
    const expected = run.results();
    expect(Object.keys(expected)).toEqual(expect.arrayContaining(["model.safetensors", "compression-plan.json"]));
    const random = createRandom(52);
    const state = path.join(run.runDirectory, "compress-state");
    let killed = 0;
    let withState = 0;
    while (killed < kills) {
      run.reset();
      for (let isDone = false; !isDone;) {
        // At once, or only after something to go on from lies on disk.
        const waitsFor = random.below(3) === 0 ? null : file;
        const delay = random.below(40);
        const { code, signal, stderr } = await run.start({
          onStart: (pid) => {
            if (killed < kills) killInCompress(run, pid, state, waitsFor, delay);
          },
        });
        isDone = signal === null;
        if (isDone) expect([code, stderr]).toEqual([0, expect.anything()]);
        else {
          killed++;
          if (names(state).some((name) => file.test(name))) withState++;
        }
      }
      expect(run.results()).toEqual(expected);
    }
    expect(withState).toBeGreaterThanOrEqual(2);
  },
  600_000,
);

/** Kills the process `delay` ms after compression began or, with `waitsFor`, after such a file appeared in its state. */
function killInCompress(run: TinyRun, pid: number, state: string, waitsFor: RegExp | null, delay: number): void {
  const timer = setInterval(() => {
    if (!isAlive(pid)) {
      clearInterval(timer);
      return;
    }
    if (run.stage() !== "compress" || !existsSync(state)) return;
    if (waitsFor !== null && !names(state).some((name) => waitsFor.test(name))) return;
    clearInterval(timer);
    setTimeout(() => isAlive(pid) && process.kill(pid, "SIGKILL"), delay);
  }, 1);
}

function names(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
