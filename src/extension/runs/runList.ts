import { existsSync, readdirSync } from "node:fs";
import * as vscode from "vscode";
import type { EngineResult } from "../../protocol/engine";
import type { RunSummary } from "../../protocol/panels";
import type { EngineClient } from "../engine/client";
import { listedFiles, runsOnDisk } from "./runsOnDisk";
import { runsFolder, runsFolders } from "../settings";

/** Between looks at the disk. */
const lookMs = 4000;

type Listed = EngineResult<"run/list">;

/** The run folders of all folders of this workspace, as the engine summarises them; refreshed when their files change. */
export class RunList implements vscode.Disposable {
  private listed: Listed = { runs: [], comparisons: [] };
  /** The reading under way or done; null once files have changed. */
  private reading: Promise<Listed> | null = null;
  private readonly changed = new vscode.EventEmitter<void>();
  readonly onDidChange = this.changed.event;
  private readonly readEmitter = new vscode.EventEmitter<Listed>();
  /** The list was read: what it says. */
  readonly onDidRead = this.readEmitter.event;
  private watchers: vscode.FileSystemWatcher[] = [];
  private timer: NodeJS.Timeout | undefined;
  private readonly stopLooking: () => void;
  /** What the last look saw. */
  private onDisk: string | null = null;
  /** What the tree is filtered by; empty: nothing. */
  filter = "";

  constructor(
    private readonly services: { context: vscode.ExtensionContext; engine: EngineClient; log: vscode.LogOutputChannel },
  ) {
    this.watch();
    const looking = setInterval(() => void this.look(), lookMs);
    this.stopLooking = () => clearInterval(looking);
  }

  /**
   * Refreshes where the disk has changed. VS Code is not told of everything: not of folders that are made with what lies in them before they
   * are watched, nor of what another machine writes to a shared file system.
   */
  async look(): Promise<void> {
    const now = await runsOnDisk(this.folders);
    if (this.onDisk !== null && now !== this.onDisk) this.refresh();
    this.onDisk = now;
  }

  /** Where runs about a checkpoint, recipe or other file are kept. */
  folderFor(about: string): string {
    return runsFolder(this.services.context, about);
  }

  /** The run folder of the workspace's first folder. */
  get folder(): string {
    return this.folders[0]!;
  }

  get folders(): string[] {
    return runsFolders(this.services.context);
  }

  /** Whether there is any run folder; looked up on disk, so that no engine is needed to know. */
  hasRuns(): boolean {
    return this.folders.some(hasEntries);
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

  /** Asks which runs are shown: words of their names, tags, methods, states, verdicts or dates, in any order. */
  async askFilter(): Promise<void> {
    const prompt = vscode.l10n.t(
      "Words in name, tags, method, state, verdict or date; #word looks at tags alone; nothing shows all",
    );
    const filter = await vscode.window.showInputBox({ prompt, value: this.filter, placeHolder: "reap #paper 2026-11" });
    if (filter === undefined) return;
    this.filter = filter.trim();
    void vscode.commands.executeCommand("setContext", "reroute.runsFiltered", this.filter !== "");
    this.changed.fire();
  }

  /** Starts over after the workspace's folders or the setting for the run folder changed. */
  watch(): void {
    for (const watcher of this.watchers) watcher.dispose();
    // Runs of a comparison are a folder deeper.
    const files = `{*,*/cells/*}/{${listedFiles.join(",")}}`;
    this.watchers = this.folders.map((folder) => {
      const pattern = new vscode.RelativePattern(vscode.Uri.file(folder), files);
      const watcher = vscode.workspace.createFileSystemWatcher(pattern);
      for (const event of [watcher.onDidCreate, watcher.onDidChange, watcher.onDidDelete]) event(() => this.refresh());
      return watcher;
    });
    this.refresh();
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.stopLooking();
    for (const watcher of this.watchers) watcher.dispose();
    this.changed.dispose();
  }

  private async read(): Promise<Listed> {
    try {
      const folders = this.folders.filter(hasEntries);
      const all = await Promise.all(
        folders.map((runsFolder) => this.services.engine.request("run/list", { runsFolder })),
      );
      this.listed = {
        runs: all.flatMap(({ runs }) => runs).sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1)),
        comparisons: all.flatMap(({ comparisons }) => comparisons),
      };
      this.readEmitter.fire(this.listed);
      return this.listed;
    } catch (error) {
      this.reading = null;
      this.services.log.error(error instanceof Error ? error : String(error));
      throw error;
    }
  }
}

function hasEntries(folder: string): boolean {
  return existsSync(folder) && readdirSync(folder).length > 0;
}
