import path from "node:path";
import * as vscode from "vscode";
import { beforeEach, expect, it, vi } from "vitest";
import { readSettings, runsFolder, runsFolders } from "../../src/extension/settings";

/** A workspace of folders with settings of their own, as VS Code answers for a resource. */
const workspace = vi.hoisted((): { folders: Record<string, Record<string, unknown>> } => ({ folders: {} }));
vi.mock("vscode", () => {
  const file = (fsPath: string) => ({ scheme: "file", fsPath });
  const folderOf = (uri?: { fsPath: string }) =>
    Object.keys(workspace.folders).find((folder) => uri && `${uri.fsPath}/`.startsWith(`${folder}/`));
  return {
    Uri: { file },
    workspace: {
      get workspaceFolders() {
        return Object.keys(workspace.folders).map((folder) => ({ uri: file(folder) }));
      },
      getWorkspaceFolder: (uri: { fsPath: string }) => {
        const folder = folderOf(uri);
        return folder === undefined ? undefined : { uri: file(folder) };
      },
      getConfiguration: (_section: string, uri?: { fsPath: string }) => ({
        get: (key: string, otherwise: unknown) => workspace.folders[folderOf(uri) ?? ""]?.[key] ?? otherwise,
      }),
    },
  };
});
const context = {
  get globalStorageUri() {
    return vscode.Uri.file("/storage");
  },
};
beforeEach(() => {
  workspace.folders = {
    "/space/one": { defaultData: "texts/one.jsonl", memory: "1GiB" },
    "/space/two": { defaultData: "two.txt", runFolder: "results", memory: "2GiB" },
    "/space/three": { runFolder: "/big/disk/runs" },
    "/space/four": { runFolder: "/big/disk/runs" },
  };
});

it.each([
  ["/space/one/model", "1GiB", "/space/one/texts/one.jsonl", "/space/one/.reroute/runs"],
  ["/space/two/a/b.reroute.json", "2GiB", "/space/two/two.txt", "/space/two/results"],
  ["/space/three", null, null, "/big/disk/runs"],
  // In no folder of the workspace: a model in a cache.
  ["/home/cache/model", null, null, "/space/one/.reroute/runs"],
])("what is about %s has the settings and the run folder of its own folder", (about, memory, text, runs) => {
  expect(readSettings(about)).toMatchObject({ memory, defaultData: text && path.normalize(text) });
  expect(runsFolder(context, about)).toBe(path.normalize(runs));
});

it("runs are looked for in the run folder of every folder, each once", () => {
  expect(runsFolders(context)).toEqual(
    ["/space/one/.reroute/runs", "/space/two/results", "/big/disk/runs"].map((folder) => path.normalize(folder)),
  );
  workspace.folders = {};
  expect(runsFolders(context)).toEqual([path.normalize("/storage/.reroute/runs")]);
});
