import { copyFileSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, beforeEach, expect, it } from "vitest";
import { temporaryFolder } from "../support/temporaryFolder";
import { daily } from "../support/nightly";
import type { TinyRun } from "./tinyRun";
import { heldIn, undisturbedRun } from "./undisturbedRun";

/** A system that misbehaves: clocks, disks, and files that lose their end. */
let run: TinyRun;
let expected: Record<string, string>;

beforeAll(async () => {
  ({ run, expected } = await undisturbedRun());
});
beforeEach(() => run.reset());

/** A script that goes first in the process. */
function preload(code: string): string {
  const file = path.join(temporaryFolder(), "preload.cjs");
  writeFileSync(file, code);
  return file;
}

it.each(
  daily(1, [
    ["runs backwards", "-2 * (RealDate.now() - begin)"],
    ["stands in 1970", "-RealDate.now()"],
    ["jumps to and fro by days", "(Math.random() - 0.5) * 2e8"],
  ] as const),
)("a clock that %s changes no result, and a run goes on under it", async (_name, jump) => {
  const clock = preload(`
    const RealDate = Date;
    const begin = RealDate.now();
    const now = () => RealDate.now() + Math.round(${jump});
    globalThis.Date = class extends RealDate {
      constructor(...args) { if (args.length === 0) super(now()); else super(...args); }
      static now() { return now(); }
    };`);
  const held = heldIn("calibrate", (pid) => void process.kill(pid, "SIGKILL"));
  await run.start({ ...held, preload: [clock, held.preload] });
  expect(await run.start({ preload: clock })).toMatchObject({ code: 0 });
  expect(run.results()).toEqual(expected);
});

it.each(
  daily(1, [
    ["weights, later", "model.safetensors", 40, "checkpoint/truncated"],
    ["weights", "model.safetensors", 3, "checkpoint/truncated"],
  ] as const),
)("a disk that fails while it reads %s is named, and the run goes on afterwards", async (_name, file, reads, code) => {
  const disk = preload(`
    const fs = require("node:fs");
    const { open } = fs.promises;
    let left = ${reads};
    fs.promises.open = async (file, ...rest) => {
      const handle = await open(file, ...rest);
      if (!String(file).endsWith(${JSON.stringify(file)})) return handle;
      const { read } = handle;
      handle.read = async (...args) => {
        if (--left < 0) throw Object.assign(new Error("EIO: i/o error, read"), { code: "EIO" });
        return read.apply(handle, args);
      };
      return handle;
    };`);
  const failed = await run.start({ preload: disk });
  expect([failed.code, failed.stderr]).toEqual([
    2,
    expect.stringMatching(new RegExp(`error ${code}: .*${file}.*the disk reported a read error`)),
  ]);
  expect((await run.start()).code).toBe(0);
  expect(run.results()).toEqual(expected);
});

it.skipIf(process.platform !== "linux").each(daily(1, ["calibrate", "profile"] as const))(
  "weights cut off under stage %s end the attempt, by an error or the system's signal, and a whole file lets it go on",
  async (stage) => {
    const weights = path.join(run.parent, "teacher", "model.safetensors");
    const copy = path.join(temporaryFolder(), "copy");
    const { size, atime, mtime } = statSync(weights);
    copyFileSync(weights, copy);
    const { code, signal, stderr } = await run.start(heldIn(stage, () => truncateSync(weights, size / 2)));
    // Mapped bytes beyond a file's end cannot be read: where the runtime touches them, the system ends the process.
    if (signal === null)
      expect([code, stderr]).toEqual([2, expect.stringMatching(/error checkpoint\/(changed|truncated): /)]);
    else expect(signal).toBe("SIGBUS");
    // What is wrong is named as long as it is.
    const again = await run.start();
    expect([again.code, again.stderr]).toEqual([
      2,
      expect.stringMatching(/error checkpoint\/truncated: .*model.safetensors/),
    ]);
    if (signal !== null) expect(again.stderr).toContain(`stage ${stage} ended without a word`);
    copyFileSync(copy, weights);
    utimesSync(weights, atime, mtime);
    expect((await run.start()).code).toBe(0);
    expect(run.results()).toEqual(expected);
  },
);
