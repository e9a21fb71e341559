import * as vscode from "vscode";
import type { RunSummary } from "../../protocol/panels";
import { formatDuration, formatNats } from "../quantities";
import type { RunList } from "./runList";
import { isUnfinished } from "./liveRun";
import { progressLine } from "./runMessages";
import type { RunTracker } from "./runTracker";

export type RunNode =
  | { kind: "run"; summary: RunSummary }
  | { kind: "stage"; stage: RunSummary["stages"][number] }
  | { kind: "message"; message: string };

const stateIcons: Record<RunSummary["state"], vscode.ThemeIcon> = {
  pending: new vscode.ThemeIcon("clock"),
  running: new vscode.ThemeIcon("sync~spin"),
  done: new vscode.ThemeIcon("pass", new vscode.ThemeColor("testing.iconPassed")),
  failed: new vscode.ThemeIcon("error", new vscode.ThemeColor("testing.iconFailed")),
  cancelled: new vscode.ThemeIcon("circle-slash"),
  interrupted: new vscode.ThemeIcon("debug-pause"),
};

/** Runs with their state, newest first, and below each its stages. Live runs show the progress of this window. */
export class RunsTree implements vscode.TreeDataProvider<RunNode> {
  private readonly changed = new vscode.EventEmitter<void>();
  readonly onDidChangeTreeData = this.changed.event;
  private lastTold = 0;

  constructor(
    private readonly list: RunList,
    private readonly tracker: RunTracker,
  ) {
    list.onDidChange(() => this.changed.fire());
    tracker.onChange(() => {
      // Progress comes several times a second; a tree that repaints as often is hard to read.
      if (Date.now() - this.lastTold < 1000) return;
      this.lastTold = Date.now();
      this.changed.fire();
    });
    tracker.onStage(() => list.refresh());
  }

  async getChildren(node?: RunNode): Promise<RunNode[]> {
    if (node?.kind === "run") return node.summary.stages.map((stage) => ({ kind: "stage", stage }));
    if (node) return [];
    try {
      return (await this.list.get()).map((summary) => ({ kind: "run", summary }));
    } catch (error) {
      return [{ kind: "message", message: error instanceof Error ? error.message : String(error) }];
    }
  }

  getTreeItem(node: RunNode): vscode.TreeItem {
    switch (node.kind) {
      case "run":
        return this.runItem(node.summary);
      case "stage": {
        const item = new vscode.TreeItem(node.stage.id, vscode.TreeItemCollapsibleState.None);
        item.description =
          node.stage.seconds > 0 ? `${node.stage.state}, ${formatDuration(node.stage.seconds)}` : node.stage.state;
        item.iconPath = new vscode.ThemeIcon(node.stage.state === "done" ? "check" : "circle-outline");
        return item;
      }
      case "message": {
        const item = new vscode.TreeItem(node.message, vscode.TreeItemCollapsibleState.None);
        item.iconPath = new vscode.ThemeIcon("warning");
        return item;
      }
    }
  }

  private runItem(summary: RunSummary): vscode.TreeItem {
    const live = this.tracker.get(summary.directory);
    const working = live !== null && isUnfinished(live);
    const state = working ? "running" : summary.state;
    const item = new vscode.TreeItem(summary.name, vscode.TreeItemCollapsibleState.Collapsed);
    item.id = summary.directory;
    item.description = working ? progressLine(live, vscode.l10n.t) : describe(summary);
    item.iconPath = stateIcons[state];
    item.tooltip = [summary.directory, summary.error?.message].filter(Boolean).join("\n");
    // Menus look at this: run.done, run.resumable, run.live, run.elsewhere (another process works on it).
    item.contextValue = `run.${working ? "live" : contextOf(summary.state)}`;
    return item;
  }
}

function describe({ state, verdict, klBefore, klAfter }: RunSummary): string {
  if (state !== "done" || verdict === null) return state;
  if (klBefore === null || klAfter === null) return verdict;
  return `${verdict} · KL ${formatNats(klBefore)} → ${formatNats(klAfter)}`;
}

function contextOf(state: RunSummary["state"]): string {
  if (state === "done") return "done";
  return state === "running" ? "elsewhere" : "resumable";
}
