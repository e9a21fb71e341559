import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { temporaryFolder } from "../support/temporaryFolder";

/** A script that goes first in a process, counts its steps at the disk, and ends it before one of them. */
export interface StepKiller {
  preload: string;
  /** Environment variable that names the step to end before; "" or absent: none. */
  variable: string;
  /** Steps that the last process which was not killed has done. */
  steps: () => number;
  /** Those of its steps behind which a file of such a name was there: before them a kill leaves that file. */
  behind: (file: RegExp) => number[];
}

/**
 * Kills by progress, not by a clock: a process ends itself by SIGKILL before its n-th write, flush or change of a name. What lies on
 * disk changes at no other moment, so these are all the instants that differ; a slow machine has the same ones.
 */
export function stepKiller(): StepKiller {
  const folder = temporaryFolder();
  const [preload, counted, variable] = [
    path.join(folder, "steps.cjs"),
    path.join(folder, "steps"),
    "REROUTE_TEST_KILL_AT",
  ];
  writeFileSync(
    preload,
    `const fs = require("node:fs");
     const at = Number(process.env.${variable} || Infinity);
     let steps = 0;
     const named = [];
     const step = () => { if (++steps >= at) process.kill(process.pid, "SIGKILL"); };
     const counting = (owner, name) => {
       const call = owner[name];
       owner[name] = function (...args) { step(); return call.apply(this, args); };
     };
     for (const name of ["rename", "rm", "rmdir", "link", "unlink", "writeFile"]) counting(fs.promises, name);
     for (const name of ["writeSync", "fsyncSync", "renameSync", "writeFileSync"]) counting(fs, name);
     const { rename } = fs.promises;
     fs.promises.rename = (...args) => { const done = rename(...args); named.push([String(args[1]), steps + 1]); return done; };
     const { open } = fs.promises;
     fs.promises.open = async (...args) => {
       const handle = await open(...args);
       for (const name of ["write", "writeFile", "appendFile", "sync", "datasync"]) counting(handle, name);
       return handle;
     };
     const write = fs.writeFileSync;
     process.on("exit", () => { if (at === Infinity) { write(${JSON.stringify(counted)}, JSON.stringify({ steps, named })); } });`,
  );
  const read = () => JSON.parse(readFileSync(counted, "utf8")) as { steps: number; named: [string, number][] };
  return {
    preload,
    variable,
    steps: () => (existsSync(counted) ? read().steps : 0),
    behind: (file) => read().named.flatMap(([name, step]) => (file.test(name) ? [step] : [])),
  };
}

/** `count` of the steps 1..total, one in each of as many equal parts. */
export function spreadSteps(count: number, total: number, below: (n: number) => number): number[] {
  const part = Math.max(1, Math.floor(total / count));
  return Array.from({ length: count }, (_, i) => 1 + i * part + below(part));
}
