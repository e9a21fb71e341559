import { mkdirSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { temporaryFolder } from "../../support/temporaryFolder";

type Told = (uri: { fsPath: string }) => void;
const told = vi.hoisted((): { listeners: Told[]; pattern: string } => ({ listeners: [], pattern: "" }));
vi.mock("vscode", () => ({
  EventEmitter: class {
    readonly #listeners: (() => void)[] = [];
    readonly event = (listener: () => void) => this.#listeners.push(listener);
    fire() {
      for (const listener of this.#listeners) listener();
    }
    dispose() {}
  },
  RelativePattern: function (_base: unknown, pattern: string) {
    told.pattern = pattern;
  },
  Uri: { file: (fsPath: string) => ({ fsPath }) },
  commands: { executeCommand: () => Promise.resolve() },
  workspace: {
    workspaceFolders: undefined,
    getConfiguration: () => ({ get: (_key: string, fallback: unknown) => fallback, inspect: () => undefined }),
    createFileSystemWatcher: () => ({
      ...{ onDidCreate: (listener: Told) => told.listeners.push(listener), onDidChange: () => undefined },
      ...{ onDidDelete: () => undefined, dispose: () => undefined },
    }),
  },
}));

const { RunList } = await import("../../../src/extension/runs/runList");

const runs = path.join(temporaryFolder(), "runs");
const other = path.join(runs, "grid");
const listed = { runs: [] as { directory: string; createdAt: string }[], comparisons: [] as { directory: string }[] };
const request = vi.fn(() => Promise.resolve({ ...listed }));

beforeEach(() => {
  vi.useFakeTimers();
  mkdirSync(path.join(other, "cells", "reap-0.5"), { recursive: true });
});
afterEach(() => {
  vi.useRealTimers();
});

it("finds a comparison whose first files nobody was told of by the progress that it writes", async () => {
  const context = { globalStorageUri: { fsPath: path.dirname(runs) } };
  const list = new RunList({ context, engine: { request }, log: { error: () => undefined } } as never);
  vi.spyOn(list, "folders", "get").mockReturnValue([runs]);
  await vi.advanceTimersByTimeAsync(200);
  const seen: string[][] = [];
  list.onDidChange(() => void list.all().then(({ comparisons }) => seen.push(comparisons.map((one) => one.directory))));
  const tell = async (file: string) => {
    for (const listener of told.listeners) listener({ fsPath: file });
    await vi.advanceTimersByTimeAsync(200);
  };
  expect(told.pattern).toContain("progress.json");
  listed.comparisons = [{ directory: other }];
  listed.runs = [{ directory: path.join(other, "cells", "reap-0.5"), createdAt: "2026" }];
  await tell(path.join(other, "progress.json"));
  expect(seen).toEqual([[other]]);
  // Listed by now: a look a second would read all runs each time.
  await tell(path.join(other, "progress.json"));
  await tell(path.join(other, "cells", "reap-0.5", "progress.json"));
  expect(seen).toHaveLength(1);
  await tell(path.join(other, "comparison.json"));
  expect(seen).toHaveLength(2);
  list.dispose();
});
