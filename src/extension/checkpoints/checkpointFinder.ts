import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import type { CheckpointSummary, HubModel } from "../../protocol/checkpointSummary";
import type { EngineResult } from "../../protocol/engine";
import type { EngineClient } from "../engine/client";
import { hubModelOf, isInternal, matchesFilter } from "./checkpointFolder";

/** More checkpoints than this in one workspace are not listed: the search would slow the window down. */
const maxShards = 5000;

/** Finds checkpoint folders in the workspace by file names alone, and inspects those that are asked about. */
export class CheckpointFinder implements vscode.Disposable {
  private folders: Promise<string[]> | null = null;
  private hub: Promise<EngineResult<"checkpoint/hubModels">> | null = null;
  private filter = "";
  private readonly inspected = new Map<string, Promise<CheckpointSummary>>();
  private readonly changed = new vscode.EventEmitter<void>();
  readonly onDidChange = this.changed.event;
  private readonly watcher = vscode.workspace.createFileSystemWatcher("**/{config.json,*.safetensors,reroute.json}");
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly engine: Pick<EngineClient, "request">) {
    for (const event of [this.watcher.onDidCreate, this.watcher.onDidChange, this.watcher.onDidDelete]) {
      event(() => this.refresh());
    }
  }

  /** Folders that hold a config.json and at least one .safetensors file, sorted by path; those inside run folders last. */
  list(): Promise<string[]> {
    if (this.folders === null) {
      this.folders = this.find();
      void this.folders.then(tellMenus, () => undefined);
    }
    return this.folders;
  }

  /** Models of the Hugging Face cache whose name holds what the user filters by; none where the engine cannot say. */
  async hubModels(): Promise<{ cacheFolder: string; models: HubModel[]; filter: string }> {
    this.hub ??= this.engine.request("checkpoint/hubModels", {});
    const { filter } = this;
    try {
      const { cacheFolder, models } = await this.hub;
      return { cacheFolder, models: models.filter(({ id }) => matchesFilter(id, filter)), filter };
    } catch {
      this.hub = null;
      return { cacheFolder: "", models: [], filter };
    }
  }

  /** Names of all models of the Hugging Face cache; none where the engine cannot say. */
  async hubModelIds(): Promise<string[]> {
    this.hub ??= this.engine.request("checkpoint/hubModels", {});
    try {
      return (await this.hub).models.map(({ id }) => id);
    } catch {
      this.hub = null;
      return [];
    }
  }

  /** Asks which models of the cache are listed: parts of their names, in any order. */
  async askFilter(): Promise<void> {
    const prompt = vscode.l10n.t("Parts of the names of models to list; nothing lists all");
    const filter = await vscode.window.showInputBox({ prompt, value: this.filter, placeHolder: "qwen 30b" });
    if (filter === undefined) return;
    this.filter = filter.trim();
    this.changed.fire();
  }

  /** @throws the engine's typed error for a checkpoint that cannot be read */
  inspect(folder: string): Promise<CheckpointSummary> {
    const known = this.inspected.get(folder);
    if (known) return known;
    const summary = this.engine.request("checkpoint/inspect", { path: folder });
    this.inspected.set(folder, summary);
    // A failure is not kept: the file may be repaired, or the engine may come back.
    summary.catch(() => this.inspected.delete(folder));
    return summary;
  }

  refresh(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.folders = null;
      this.hub = null;
      this.inspected.clear();
      void this.list();
      this.changed.fire();
    }, 300);
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.watcher.dispose();
    this.changed.dispose();
  }

  private async find(): Promise<string[]> {
    const shards = await vscode.workspace.findFiles("**/*.safetensors", "**/{node_modules,.git}/**", maxShards);
    const folders = new Set(shards.filter(({ scheme }) => scheme === "file").map(({ fsPath }) => path.dirname(fsPath)));
    // What runs keep for themselves comes last: it is seldom what somebody looks for.
    const ofRun = (folder: string) => Number(folder.includes(`${path.sep}.reroute${path.sep}`));
    return [...folders]
      .filter((folder) => existsSync(path.join(folder, "config.json")) && !isInternal(folder))
      .sort((a, b) => ofRun(a) - ofRun(b) || (a < b ? -1 : 1));
  }
}

/** The explorer's menu offers calibration on these alone; until they are known, on every folder. */
function tellMenus(folders: string[]): void {
  // A model's folder in a download cache stands for its snapshot.
  const models = folders.filter((folder) => hubModelOf(folder) !== null).map((folder) => path.resolve(folder, "../.."));
  void vscode.commands.executeCommand("setContext", "reroute.checkpointFolders", [...folders, ...models]);
  void vscode.commands.executeCommand("setContext", "reroute.checkpointsKnown", true);
}
