import { spawnSync } from "node:child_process";
import { closeSync, cpSync, mkdirSync, openSync, readFileSync, rmSync, statSync, utimesSync, writeSync } from "node:fs";
import path from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createRandom } from "../../src/engine/tensor/random";
import { temporaryFolder } from "../support/temporaryFolder";
import { isNightly } from "../support/nightly";
import { filesBelow, TinyRun, type Outcome } from "./tinyRun";
import { heldIn, undisturbedRun } from "./undisturbedRun";

let run: TinyRun;
let expected: Record<string, string>;
/** Everything outside the run and its output, which no fault may touch. */
let others: string;

beforeAll(async () => {
  ({ run, expected } = await undisturbedRun((prepared) => (others = otherFiles(prepared))));
});
beforeEach(() => run.reset());

function otherFiles(run: TinyRun): string {
  return filesBelow(run.parent)
    .filter((name) => !name.startsWith("work"))
    .map((name) => [name, statSync(path.join(run.parent, name)).size, readFileSync(path.join(run.parent, name))])
    .join();
}

describe.skipIf(process.platform === "win32")("a disk that is full", () => {
  const limits = isNightly ? 40 : 2;

  it(`at ${limits} limits of file size says so, damages nothing, and the run goes on afterwards`, async () => {
    // Logarithmic, since the files of the run are of 1 to 440 KiB; from every stage on, since the largest comes early.
    const random = createRandom(7);
    const failed = new Set<string>();
    for (let i = 0; i < limits; i++) {
      run.reset();
      const stage = (["calibrate", "compress", "evaluate", "profile"] as const)[i % 4]!;
      await run.start(heldIn(stage, (pid) => void process.kill(pid, "SIGKILL")));
      const { code, stderr } = await run.start({ limits: `ulimit -f ${Math.floor(5 * 80 ** random.uniform())}` });
      if (code !== 0) {
        expect([code, stderr]).toEqual([2, expect.stringMatching(/error output\/write-failed: .*ulimit -f/)]);
        failed.add(/write "?([^"\s:]+)/.exec(stderr)?.[1] ?? "?");
      }
      expect(otherFiles(run)).toBe(others);
      expect((await run.start()).code).toBe(0);
      expect(run.results()).toEqual(expected);
    }
    expect(failed.size).toBeGreaterThanOrEqual(isNightly ? 2 : 1);
  });

  it("of a small file system says so, and the run goes on when there is room", async ({ skip }) => {
    const small = path.join(temporaryFolder(), "small");
    mkdirSync(small);
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64m", "tmpfs", small]).status === 0;
    skip(!mounted, "mounting needs root");
    try {
      await fillSmall(small);
    } finally {
      spawnSync("umount", ["-l", small]);
    }
  });

  async function fillSmall(small: string): Promise<void> {
    const random = createRandom(8);
    const sizes = isNightly ? 25 : 2;
    for (const name of ["teacher", "calibration.jsonl", "evaluation.jsonl"])
      cpSync(path.join(run.parent, name), path.join(small, name), { recursive: true });
    const tiny = new TinyRun(run.cli, small);
    const resize = (kib: number) => spawnSync("mount", ["-o", `remount,size=${kib}k`, small]);
    expect((await tiny.start()).code).toBe(0);
    const wanted = tiny.results();
    let failures = 0;
    for (let i = 0; i < sizes; i++) {
      tiny.reset();
      const used = Number(spawnSync("du", ["-sk", small], { encoding: "utf8" }).stdout.split("\t")[0]);
      resize(used + 30 + random.below(900));
      const { code, stderr } = await tiny.start();
      if (code !== 0) {
        failures += 1;
        expect([code, stderr]).toEqual([2, expect.stringMatching(/error (output\/write-failed|preflight\/disk): /)]);
      }
      resize(64 * 1024);
      expect((await tiny.start()).code).toBe(0);
      expect(tiny.results()).toEqual(wanted);
    }
    expect(failures).toBeGreaterThan(0);
  }
});

describe("a teacher that changes", () => {
  const weights = () => path.join(run.parent, "teacher", "model.safetensors");
  const change = (byte: number) => {
    const file = openSync(weights(), "r+");
    writeSync(file, Uint8Array.of(byte), 0, 1, statSync(weights()).size - 1);
    closeSync(file);
  };

  it("under a stage is found, and the run ends right", async () => {
    const before = readFileSync(weights()).at(-1)!;
    const { atime, mtime } = statSync(weights());
    for (const stage of ["profile", "calibrate", "evaluate"] as const) {
      const { code, stderr } = await run.start(heldIn(stage, () => change(before ^ 1)));
      change(before);
      utimesSync(weights(), atime, mtime);
      expect([stage, code, stderr]).toEqual([stage, 2, expect.stringContaining("error checkpoint/changed: ")]);
    }
    expect((await run.start()).code).toBe(0);
    expect(run.results()).toEqual(expected);
  });

  it("between two attempts, by one weight, has what depends on it done again, and says so", async () => {
    await run.start(heldIn("calibrate", (pid) => void process.kill(pid, "SIGKILL")));
    const before = readFileSync(weights()).at(-1)!;
    change(before ^ 1);
    const again = await run.start();
    change(before);
    expect([again.code, again.stderr]).toEqual([
      0,
      expect.stringMatching(/Stage profile is done again: an input changed/),
    ]);
    expect(run.results()).not.toEqual(expected);
  });

  it("to one that cannot be read is an error that names its folder", async () => {
    const hidden = `${weights()}.away`;
    cpSync(weights(), hidden, { preserveTimestamps: true });
    const { code, stderr } = await run.start(heldIn("profile", () => rmSync(weights())));
    cpSync(hidden, weights(), { preserveTimestamps: true });
    rmSync(hidden);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/error checkpoint\/not-found: .*teacher/)]);
    expect((await run.start()).code).toBe(0);
    expect(run.results()).toEqual(expected);
  });
});

describe.skipIf(process.platform === "win32")("an interrupt", () => {
  it.each([
    ["once", 1],
    ["twice", 2],
  ])("%s ends with 130, and the run goes on from there", async (_name, times) => {
    const { code, signal, stderr } = await run.start({
      ...heldIn("calibrate", (pid) => void process.kill(pid, "SIGINT")),
      // The second comes when the first has been heard.
      onSaid: (said, child) => {
        if (times === 2 && /interrupt again to exit at once\n$/.test(said)) child.kill("SIGINT");
      },
    });
    // Where the process has ended by the first already, the second ends it the system's way, which shells call 130, too.
    expect(signal === "SIGINT" ? 130 : code).toBe(130);
    expect(stderr).not.toMatch(/ at .*\.[cj]s:\d+/);
    if (times === 1) {
      expect(stderr).toContain("cancelled");
      expect(filesBelow(run.runDirectory).filter((name) => /lock|partial|hidden/.test(name))).toEqual([]);
    }
    expect((await run.start()).code).toBe(0);
    expect(run.results()).toEqual(expected);
  });
});

it("a second process on the same run is refused, and does not disturb the first", async () => {
  let second: Outcome | undefined;
  const first = await run.start(
    heldIn("profile", async () => {
      second = await run.start();
    }),
  );
  expect(first.code).toBe(0);
  expect(second).toMatchObject({ code: 2, stderr: expect.stringContaining("error run/locked: ") as string });
  expect(run.results()).toEqual(expected);
});
