import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect } from "vitest";
import type { StageId } from "../../src/protocol/run";
import { temporaryFolder } from "../support/temporaryFolder";
import { bundleCli, TinyRun } from "./tinyRun";

/** A run that nothing disturbed, and what it left: what disturbed ones must end with. */
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

/**
 * Options of `start`: the process waits at the first moment of a stage, when its inputs have been looked at, while `act` does
 * what it does, and goes on behind that. So the stage is never over before the disturbance comes, however busy the machine is.
 */
export function heldIn(
  stage: StageId,
  act: (pid: number) => void | Promise<void>,
): { preload: string; onStart: (pid: number) => void } {
  const folder = temporaryFolder();
  const [preload, waits, goesOn] = ["hold.cjs", "waits", "goes-on"].map((name) => path.join(folder, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(
    preload,
    `const fs = require("node:fs");
     const { rename } = fs.promises;
     let isHeld = false;
     fs.promises.rename = async (from, to) => {
       await rename(from, to);
       if (isHeld || !String(to).endsWith("run.json")) return;
       const { stages } = JSON.parse(fs.readFileSync(to, "utf8"));
       if (!stages.some(({ id, state }) => id === ${JSON.stringify(stage)} && state === "running")) return;
       isHeld = true;
       fs.writeFileSync(${JSON.stringify(waits)}, "");
       while (!fs.existsSync(${JSON.stringify(goesOn)})) await new Promise((resolve) => setTimeout(resolve, 5));
     };`,
  );
  const onStart = (pid: number) => {
    const timer = setInterval(() => {
      if (!existsSync(waits)) return;
      clearInterval(timer);
      void Promise.resolve(act(pid)).finally(() => writeFileSync(goesOn, ""));
    }, 5);
    timer.unref();
  };
  return { preload, onStart };
}
