import { expect } from "vitest";
import type { StageId } from "../../src/protocol/run";
import { temporaryFolder } from "../support/temporaryFolder";
import { bundleCli, TinyRun } from "./tinyRun";

/** A run that nothing disturbed, and what it left: what disturbed ones must end with. `run.cli` is to be removed at last. */
export interface UndisturbedRun {
  run: TinyRun;
  expected: Record<string, string>;
}

/** Makes the teacher, lets `prepared` look at the folder, and runs. */
export async function undisturbedRun(prepared?: (run: TinyRun) => void): Promise<UndisturbedRun> {
  const parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  const run = new TinyRun(await bundleCli(), parent);
  prepared?.(run);
  expect(await run.start()).toMatchObject({ code: 0 });
  return { run, expected: run.results() };
}

/** For `onStart`: does `act` once, as soon as the stage is under way. */
export function whenIn(run: TinyRun, stage: StageId, act: (pid: number) => void): (pid: number) => void {
  return (pid) => {
    const timer = setInterval(() => {
      if (!run.isIn(stage)) return;
      clearInterval(timer);
      act(pid);
    }, 5);
    timer.unref();
  };
}
