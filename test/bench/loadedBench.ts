import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { RuntimeOptions } from "../../src/engine/runtime/session";
import { OwnSide } from "./peers/ownSide";
import { samplePair } from "./peers/pairs";
import { spreadOf } from "./series";

/** Not counted: graphs compile, and both ways are timed. */
const warmUpTurns = 3;

/**
 * The sample's work by the way that is chosen while it runs and by one executor alone, in turns, as the machine is and beside
 * one busy process a core: several executors may gain, and must not lose where others take the cores.
 */
export async function loadedBench(runtime: RuntimeOptions, rounds: number, print: (line: string) => void) {
  const directory = await mkdtemp(path.join(os.tmpdir(), "reroute-bench-"));
  try {
    const pair = await samplePair(directory, runtime);
    const work: Record<string, (side: OwnSide, turn: number) => Promise<number>> = {
      "Router KD": (side, turn) => side.routerKd((turn * 32) % 256, 4, 8),
      profile: (side, turn) => side.profile(64 * (turn % 4), 64),
      evaluation: (side, turn) => side.evaluate(64 * (turn % 4), 64),
    };
    for (const busy of [0, os.availableParallelism()]) {
      const others = Array.from({ length: busy }, busyProcess);
      const sides = {
        one: await OwnSide.open(pair, runtime, directory, "one"),
        chosen: await OwnSide.open(pair, runtime, directory),
      };
      try {
        print(`  beside ${busy} busy processes, load ${os.loadavg()[0]!.toFixed(1)}`);
        for (const [name, run] of Object.entries(work)) {
          const ratios: number[] = [];
          for (let turn = 0; turn < warmUpTurns + rounds; turn++) {
            const seconds = { one: 0, chosen: 0 };
            const found = { one: 0, chosen: 0 };
            for (const side of turn % 2 === 0 ? (["one", "chosen"] as const) : (["chosen", "one"] as const)) {
              const began = performance.now();
              found[side] = await run(sides[side], turn);
              seconds[side] = performance.now() - began;
            }
            if (found.one !== found.chosen) throw new Error(`${name}: ${found.one} alone, ${found.chosen} as chosen`);
            if (turn >= warmUpTurns) ratios.push(seconds.one / seconds.chosen);
          }
          const { median, low, high } = spreadOf(ratios);
          const range = `${low.toFixed(2)} to ${high.toFixed(2)}`;
          print(`    ${name}: as chosen ${median.toFixed(2)} (${range}) times the rate of one executor`);
        }
      } finally {
        for (const other of others) other.kill();
        for (const side of Object.values(sides)) await side.close();
      }
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function busyProcess(): ChildProcess {
  return spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" });
}
