import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, it } from "vitest";
import { checkpointName, outputFolder, outputParent, runId, safeName } from "../../../src/extension/runs/runName";
import { unfinishedRuns } from "../../../src/extension/runs/unfinishedRuns";

/** Only there can a process be told from a later one with the same id. */
const onLinux = process.platform === "linux";
const folder = mkdtempSync(path.join(tmpdir(), "reroute-runs-"));
afterAll(() => rmSync(folder, { recursive: true }));

it.each<[string, string[], { lock?: object; text?: string }, boolean]>([
  ["killed", ["done", "running", "pending"], {}, true],
  ["between-stages", ["done", "pending"], {}, true],
  ["done", ["done", "skipped", "done"], {}, false],
  ["failed", ["done", "failed", "pending"], {}, false],
  ["cancelled", ["cancelled", "pending"], {}, false],
  ["not-begun", ["pending", "pending"], {}, false],
  ["worked-on", ["running"], { lock: { pid: process.pid } }, false],
  ["stale-lock", ["running"], { lock: { pid: 2 ** 22 + 1 } }, true],
  ["other-machine", ["running"], { lock: { pid: 2 ** 22 + 1, host: "another", processStart: null } }, false],
  ["here", ["running"], { lock: { pid: process.pid, host: hostname(), processStart: null } }, false],
  ["recycled-pid", ["running"], { lock: { pid: process.pid, host: hostname(), processStart: "1" } }, onLinux],
  ["odd-pid", ["running"], { lock: { pid: -1, host: hostname() } }, true],
  ["malformed", [], { text: "{" }, false],
  ["no-stages", [], { text: '{"stages": "x"}' }, false],
])("%s", (name, states, { lock, text }, offered) => {
  const run = path.join(folder, name);
  mkdirSync(run);
  writeFileSync(
    path.join(run, "run.json"),
    text ?? JSON.stringify({ name, stages: states.map((state) => ({ state })) }),
  );
  if (lock) writeFileSync(path.join(run, "lock.json"), JSON.stringify(lock));
  expect(unfinishedRuns(folder).some((found) => found.name === name)).toBe(offered);
});

it.each<[string, string[], { lock?: object; cancelled?: string; text?: string }, boolean]>([
  ["grid-killed", ["done", "pending"], {}, true],
  ["grid-done", ["done", "done"], {}, false],
  ["grid-with-failures", ["done", "failed"], {}, false],
  ["grid-cancelled", ["done", "pending"], { cancelled: "cell-1" }, false],
  ["grid-worked-on", ["pending"], { lock: { pid: process.pid } }, false],
  ["grid-malformed", [], { text: '{"cells": 3}' }, false],
])("%s", (name, states, { lock, cancelled, text }, offered) => {
  const directory = path.join(folder, name);
  const cells = states.map((state, i) => ({ id: `cell-${i}`, state }));
  mkdirSync(directory);
  writeFileSync(path.join(directory, "comparison.json"), text ?? JSON.stringify({ name, cells }));
  for (const { id } of cells) {
    mkdirSync(path.join(directory, "cells", id), { recursive: true });
    const state = id === cancelled ? "cancelled" : "done";
    writeFileSync(path.join(directory, "cells", id, "run.json"), JSON.stringify({ stages: [{ state }] }));
  }
  if (lock) writeFileSync(path.join(directory, "lock.json"), JSON.stringify(lock));
  expect(unfinishedRuns(folder).some((found) => found.runDirectory === directory)).toBe(offered);
});

it("a folder that does not exist has no runs", () => expect(unfinishedRuns(path.join(folder, "none"))).toEqual([]));

it("run ids sort by time and are safe as folder names", () => {
  const now = new Date("2026-11-22T01:02:03.456Z");
  expect(runId("Qwen3 30B / reap ../..", now, () => false)).toBe("2026-11-22_01-02-03_qwen3-30b-reap");
  const taken = new Set(["2026-11-22_01-02-03_a", "2026-11-22_01-02-03_a-2"]);
  expect(runId("a", now, (id) => taken.has(id))).toBe("2026-11-22_01-02-03_a-3");
  expect(runId("<>|", now, () => false)).toBe("2026-11-22_01-02-03");
  expect(safeName("x".repeat(100))).toHaveLength(40);
  expect(outputFolder("/m/qwen", "/m", "reap-0.5-calibrated", (f) => f === "/m/qwen-reap-0.5-calibrated")).toBe(
    "/m/qwen-reap-0.5-calibrated-2",
  );
});

const cached = "/home/me/.cache/huggingface/hub/models--Qwen--Qwen3-30B-A3B/snapshots/0123abc";
it.each<[string, string | null, string]>([
  ["/space/models/qwen", "/space", "/space/models"],
  ["/data/qwen", "/space", "/space"],
  ["/data/qwen", null, "/data"],
  [cached, "/space", "/space"],
  [cached, null, "/home/me/reroute"],
])("results of %s in the workspace %s go to %s", (checkpoint, workspace, parent) => {
  expect(outputParent(checkpoint, workspace, "/home/me")).toBe(parent);
});

it("a checkpoint in a Hugging Face cache has its model's name, not the snapshot's hash", () => {
  expect(checkpointName(cached)).toBe("Qwen/Qwen3-30B-A3B");
  expect(checkpointName("/data/qwen")).toBe("qwen");
  expect(outputFolder(cached, "/space", "reap-0.5", () => false)).toBe("/space/Qwen3-30B-A3B-reap-0.5");
});
