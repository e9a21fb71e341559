import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { ignoreInGit } from "../../../../src/engine/run/folder/gitIgnore";
import { readProgress, requestCancel, withOnlookers } from "../../../../src/engine/run/folder/onlookers";
import type { Progress } from "../../../../src/protocol/progress";
import { temporaryFolder } from "../../../support/temporaryFolder";

const progress: Progress = { stage: "calibrate", message: "update 3 of 8", done: 3, total: 8, unit: "updates" };
const hooks = () => ({ signal: new AbortController().signal });

it("progress can be read by others while the work lasts, and is gone afterwards", async () => {
  const folder = temporaryFolder();
  const told: Progress[] = [];
  const result = await withOnlookers(folder, { ...hooks(), report: (p) => told.push(p) }, async ({ report }) => {
    report?.(progress);
    while (readProgress(folder) === null) await new Promise((next) => setTimeout(next, 5));
    expect(readProgress(folder)).toEqual(progress);
    return "done";
  });
  expect(result).toBe("done");
  expect(told).toEqual([progress]);
  expect(readProgress(folder)).toBeNull();
});

it("a request in the folder stops the work, and is taken away", async () => {
  const folder = temporaryFolder();
  const stopped = withOnlookers(folder, hooks(), async ({ signal }) => {
    await requestCancel(folder);
    await new Promise((aborted) => signal.addEventListener("abort", aborted));
    return signal.aborted;
  });
  expect(await stopped).toBe(true);
  expect(existsSync(path.join(folder, "cancel.json"))).toBe(false);
});

it("the progress that a killed process left is gone, also where there is nothing to report", async () => {
  const folder = temporaryFolder();
  writeFileSync(path.join(folder, "progress.json"), JSON.stringify(progress));
  await withOnlookers(folder, hooks(), async () => undefined);
  expect(existsSync(path.join(folder, "progress.json"))).toBe(false);
});

it("a request that was meant for an earlier process stops nothing", async () => {
  const folder = temporaryFolder();
  await requestCancel(folder);
  await withOnlookers(folder, hooks(), async ({ signal }) => {
    expect(existsSync(path.join(folder, "cancel.json"))).toBe(false);
    expect(signal.aborted).toBe(false);
  });
});

it.each([
  ["below .reroute: that folder ignores itself", ".reroute/runs/a", [".reroute/.gitignore"]],
  ["a cell of a comparison: the same file", ".reroute/runs/grid/cells/reap-0.5", [".reroute/.gitignore"]],
  ["a folder that somebody chose: nothing", "results/a", []],
])("version control, %s", async (_, run, expected) => {
  const folder = temporaryFolder();
  mkdirSync(path.join(folder, run), { recursive: true });
  await ignoreInGit(path.join(folder, run));
  expect([".reroute/.gitignore", "results/.gitignore"].filter((file) => existsSync(path.join(folder, file)))).toEqual(
    expected,
  );
});

it("a .gitignore that is there stays as it is", async () => {
  const folder = temporaryFolder();
  mkdirSync(path.join(folder, ".reroute/runs/a"), { recursive: true });
  writeFileSync(path.join(folder, ".reroute/.gitignore"), "!report.html\n");
  await ignoreInGit(path.join(folder, ".reroute/runs/a"));
  expect(readFileSync(path.join(folder, ".reroute/.gitignore"), "utf8")).toBe("!report.html\n");
});
