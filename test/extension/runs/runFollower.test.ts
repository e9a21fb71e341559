import { appendFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { metricsSoFar, RunFollower } from "../../../src/extension/runs/runFollower";
import { RunTracker } from "../../../src/extension/runs/runTracker";
import { RerouteError } from "../../../src/protocol/errors";
import { temporaryFolder } from "../../support/temporaryFolder";

const heldOut = (step: number, kl: number) => `${JSON.stringify({ kind: "held-out", step, kl, nll: 2, best: true })}\n`;
const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise((next) => setTimeout(next, 5));
};

it("a run of another process is shown live, whole from its beginning, until that process ends", async () => {
  const directory = path.join(temporaryFolder(), "a");
  mkdirSync(directory);
  const file = (name: string) => path.join(directory, name);
  // This process stands for the other one.
  writeFileSync(file("lock.json"), JSON.stringify({ pid: process.pid }));
  writeFileSync(file("metrics.jsonl"), heldOut(0, 0.3) + heldOut(10, 0.2));
  const tracker = new RunTracker(
    { request: () => new Promise(() => undefined), onEvent: () => () => undefined } as never,
    metricsSoFar,
  );
  const follower = new RunFollower(tracker, 5);
  onTestFinished(() => follower.dispose());
  const lines: number[] = [];
  tracker.onMetrics((_, line) => lines.push(line.kind === "resources" ? -1 : line.step));

  follower.watch({ runs: [{ directory, name: "a", state: "running" }], comparisons: [] });
  await until(() => tracker.get(directory)?.heldOut.length === 2);
  expect(tracker.unfinished()).toEqual([]);
  expect(tracker.shown()).toMatchObject([{ name: "a", elsewhere: true, phase: "running" }]);
  expect(tracker.cancel(directory)).toBe(false);

  const progress = { stage: "calibrate", message: "m", done: 3, total: 8, unit: "updates", run: { share: 0.4 } };
  writeFileSync(file("progress.json"), JSON.stringify(progress));
  await until(() => tracker.get(directory)?.share === 0.4);
  // Half a line is not read before its end is there.
  const line = heldOut(20, 0.1);
  appendFileSync(file("metrics.jsonl"), line.slice(0, 10));
  appendFileSync(file("metrics.jsonl"), line.slice(10));
  await until(() => tracker.get(directory)?.heldOut.length === 3);
  expect(lines).toEqual([20]);

  rmSync(file("lock.json"));
  await until(() => tracker.get(directory) === null);
  expect(tracker.shown()).toEqual([]);
});

it("a run that another process holds is looked at again after this window was refused it", async () => {
  const request = () => Promise.reject(new RerouteError("run/locked", "in use"));
  const tracker = new RunTracker({ request, onEvent: () => () => undefined } as never);
  tracker.follow("/runs/a", "a");
  expect(await tracker.resume("/runs/a", "a")).toMatchObject({ phase: "failed", error: { code: "run/locked" } });
  expect(tracker.shown()).toMatchObject([{ runDirectory: "/runs/a", elsewhere: true }]);
});

it("of a comparison it is the whole that is followed, not the cell that is worked on", () => {
  const directory = path.join(temporaryFolder(), "grid");
  const cell = path.join(directory, "cells", "reap-0.5");
  mkdirSync(cell, { recursive: true });
  for (const folder of [directory, cell])
    writeFileSync(path.join(folder, "lock.json"), JSON.stringify({ pid: process.pid }));
  const followed: string[] = [];
  const tracker = {
    ...{ observed: () => undefined, unfollow: () => undefined, isOwn: () => false },
    follow: (one: string) => followed.push(one),
  };
  const follower = new RunFollower(tracker);
  onTestFinished(() => follower.dispose());
  const at = (folder: string) => ({ directory: folder, name: "grid", state: "running" });
  follower.watch({ runs: [at(cell)], comparisons: [at(directory)] });
  expect(followed).toEqual([directory]);
});

it("this window's own runs, and runs of processes that are gone, are not followed", () => {
  const directory = path.join(temporaryFolder(), "a");
  mkdirSync(directory);
  const followed: string[] = [];
  const tracker = { follow: (one: string) => followed.push(one), observed: () => undefined, unfollow: () => undefined };
  const run = { directory, name: "a", state: "running" as const };
  new RunFollower({ ...tracker, isOwn: () => false }).watch({ runs: [run], comparisons: [] });
  writeFileSync(path.join(directory, "lock.json"), JSON.stringify({ pid: process.pid }));
  new RunFollower({ ...tracker, isOwn: () => true }).watch({ runs: [run], comparisons: [] });
  new RunFollower({ ...tracker, isOwn: () => false }).watch({ runs: [{ ...run, state: "done" }], comparisons: [] });
  expect(followed).toEqual([]);
});
