import { existsSync, readdirSync } from "node:fs";
import * as vscode from "vscode";
import type { EngineResult } from "../../protocol/engine";
import type { RunSummary } from "../../protocol/panels";
import type { EngineClient } from "../engine/client";
import { runsFolder } from "../settings";

type Listed = EngineResult<"run/list">;

/** The run folders of this workspace, as the engine summarises them; refreshed when their files change. */
export class RunList implements vscode.Disposable {
  private listed: Listed = { runs: [], comparisons: [] };
  /** The reading under way or done; null once files have changed. */
  private reading: Promise<Listed> | null = null;
  private readonly changed = new vscode.EventEmitter<void>();
  readonly onDidChange = this.changed.event;
  private watcher: vscode.FileSystemWatcher | null = null;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly services: { context: vscode.ExtensionContext; engine: EngineClient; log: vscode.LogOutputChannel },
  ) {
    this.watch();
  }

  get folder(): string {
    return runsFolder(this.services.context);
  }

  /** Whether there is any run folder; looked up on disk, so that no engine is needed to know. */
  hasRuns(): boolean {
    return existsSync(this.folder) && readdirSync(this.folder).length > 0;
  }

  /** Newest first. Starts the engine only where there is something to read. */
  async get(): Promise<RunSummary[]> {
    return (await this.all()).runs;
  }

  /** Runs and comparisons; the cells of a comparison are among the runs. */
  all(): Promise<Listed> {
    return (this.reading ??= this.read());
  }

  /** The same as the disk has it now: VS Code may tell of changed files seconds later. */
  fresh(): Promise<Listed> {
    this.reading = null;
    return this.all();
  }

  /** Directories of runs that pages and trees may name. */
  knows(runDirectory: string): boolean {
    return this.listed.runs.some(({ directory }) => directory === runDirectory);
  }

  /** Forgets what was read; whoever shows it asks again. Called often, so it waits a moment for more changes. */
  refresh(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.reading = null;
      void vscode.commands.executeCommand("setContext", "reroute.hasRuns", this.hasRuns());
      this.changed.fire();
    }, 150);
  }

  /** Starts over after the setting for the run folder changed. */
  watch(): void {
    this.watcher?.dispose();
    // Runs of a comparison are a folder deeper.
    const files = "{*,*/cells/*}/{run.json,evaluation.json,comparison.json}";
    const pattern = new vscode.RelativePattern(vscode.Uri.file(this.folder), files);
    this.watcher = vscode.workspace.createFileSystemWatcher(pattern);
    for (const event of [this.watcher.onDidCreate, this.watcher.onDidChange, this.watcher.onDidDelete]) {
      event(() => this.refresh());
    }
    this.refresh();
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.watcher?.dispose();
    this.changed.dispose();
  }

  private async read(): Promise<Listed> {
    try {
      this.listed = this.hasRuns()
        ? await this.services.engine.request("run/list", { runsFolder: this.folder })
        : { runs: [], comparisons: [] };
      return this.listed;
    } catch (error) {
      this.reading = null;
      this.services.log.error(error instanceof Error ? error : String(error));
      throw error;
    }
  }
}
