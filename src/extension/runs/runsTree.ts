import * as vscode from "vscode";
import type { ComparisonSummary } from "../../protocol/compare";
import type { RunSummary } from "../../protocol/panels";
import { formatNats } from "../quantities";
import { formatDuration } from "../../protocol/quantities";
import type { RunList } from "./runList";
import { isUnfinished } from "./liveRun";
import { cellsBelow, topLevel, type RunNode } from "./runNodes";
import { progressLine } from "./runMessages";
import type { RunTracker } from "./runTracker";

const stateIcons: Record<RunSummary["state"], vscode.ThemeIcon> = {
  pending: new vscode.ThemeIcon("clock"),
  running: new vscode.ThemeIcon("sync~spin"),
  done: new vscode.ThemeIcon("pass", new vscode.ThemeColor("testing.iconPassed")),
  failed: new vscode.ThemeIcon("error", new vscode.ThemeColor("testing.iconFailed")),
  cancelled: new vscode.ThemeIcon("circle-slash"),
  interrupted: new vscode.ThemeIcon("debug-pause"),
};

/**
 * Runs with their state, newest first, and below each its stages; the cells of a comparison are below it. What this
 * window works on shows its progress.
 */
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
    if (node?.kind === "comparison") return cellsBelow(node);
    if (node) return [];
    try {
      return topLevel(await this.list.all());
    } catch (error) {
      return [{ kind: "message", message: error instanceof Error ? error.message : String(error) }];
    }
  }

  getTreeItem(node: RunNode): vscode.TreeItem {
    switch (node.kind) {
      case "run":
        return this.runItem(node.summary, node.name);
      case "comparison":
        return this.comparisonItem(node.summary);
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

  private runItem(summary: RunSummary, name: string): vscode.TreeItem {
    const live = this.tracker.get(summary.directory);
    const working = live !== null && isUnfinished(live);
    const state = working ? "running" : summary.state;
    const item = new vscode.TreeItem(name, vscode.TreeItemCollapsibleState.Collapsed);
    item.id = summary.directory;
    item.description = working ? progressLine(live, vscode.l10n.t) : describe(summary);
    item.iconPath = stateIcons[state];
    item.tooltip = [summary.directory, summary.error?.message].filter(Boolean).join("\n");
    // Menus look at this: run.done, run.resumable, run.live, run.elsewhere (another process works on it).
    item.contextValue = `run.${working ? "live" : contextOf(summary.state)}`;
    return item;
  }

  private comparisonItem({ directory, name, state, cells, done, failed }: ComparisonSummary): vscode.TreeItem {
    const live = this.tracker.get(directory);
    const working = live !== null && isUnfinished(live);
    const item = new vscode.TreeItem(name, vscode.TreeItemCollapsibleState.Collapsed);
    const counts = vscode.l10n.t("{0} of {1} cells", done, cells);
    const failures = failed > 0 ? `, ${vscode.l10n.t("{0} failed", failed)}` : "";
    item.id = directory;
    item.description = working ? progressLine(live, vscode.l10n.t) : `${state} · ${counts}${failures}`;
    item.iconPath = working || state === "running" ? stateIcons.running : new vscode.ThemeIcon("graph-scatter");
    item.tooltip = directory;
    item.contextValue = `comparison.${working ? "live" : contextOf(state)}`;
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
