import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { temporaryFolder } from "../../support/temporaryFolder";

vi.mock("vscode", () => ({
  EventEmitter: class {
    readonly #listeners: (() => void)[] = [];
    readonly event = (listener: () => void) => this.#listeners.push(listener);
    fire() {
      for (const listener of this.#listeners) listener();
    }
    dispose() {}
  },
  RelativePattern: function () {},
  Uri: { file: (fsPath: string) => ({ fsPath }) },
  commands: { executeCommand: () => Promise.resolve() },
  workspace: {
    workspaceFolders: undefined,
    getConfiguration: () => ({ get: (_key: string, fallback: unknown) => fallback, inspect: () => undefined }),
    createFileSystemWatcher: () => ({
      ...{ onDidCreate: () => undefined, onDidChange: () => undefined, onDidDelete: () => undefined },
      dispose: () => undefined,
    }),
  },
}));

const { RunList } = await import("../../../src/extension/runs/runList");

const runs = path.join(temporaryFolder(), "runs");
const request = vi.fn(() => Promise.resolve({ runs: [], comparisons: [] }));

beforeEach(() => {
  vi.useFakeTimers();
  rmSync(runs, { recursive: true, force: true });
});
afterEach(() => {
  vi.useRealTimers();
});

it.each([
  ["a run", "2026-01-01_fine", "run.json"],
  ["a comparison", "grid", "comparison.json"],
  ["a cell of one", "grid/cells/reap-0.5", "run.json"],
  ["a verdict", "2026-01-01_fine", "evaluation.json"],
])("finds %s that nobody was told of", async (_name, folder, file) => {
  const context = { globalStorageUri: { fsPath: path.dirname(runs) } };
  const list = new RunList({ context, engine: { request }, log: { error: () => undefined } } as never);
  vi.spyOn(list, "folders", "get").mockReturnValue([runs]);
  await list.look();
  await vi.advanceTimersByTimeAsync(200);
  const changes = vi.fn();
  list.onDidChange(changes);
  const isToldAfterALook = async () => {
    changes.mockClear();
    await list.look();
    await vi.advanceTimersByTimeAsync(200);
    return changes.mock.calls.length === 1;
  };
  expect(await isToldAfterALook()).toBe(false);
  mkdirSync(path.join(runs, folder), { recursive: true });
  writeFileSync(path.join(runs, folder, file), "{}");
  expect(await isToldAfterALook()).toBe(true);
  expect(await isToldAfterALook()).toBe(false);
  list.dispose();
});
