import { existsSync } from "node:fs";
import * as vscode from "vscode";
import type { ComparisonSummary } from "../../protocol/compare";
import type { RunSummary } from "../../protocol/panels";
import { formatDuration } from "../../protocol/quantities";
import { editorWords } from "../editorWords";
import type { RunList } from "./runList";
import { isUnfinished, type LiveRun } from "./liveRun";
import { runContext } from "./runContext";
import { runDescription, runFace, runLabel } from "./runFace";
import { cellsBelow, filtered, topLevel, type RunNode } from "./runNodes";
import { progressLine } from "./runMessages";
import type { RunTracker } from "./runTracker";

/**
 * Runs with their state, newest first, and below each its stages; the cells of a comparison are below it. What is being worked on
 * shows its progress; a click opens what tells most of a run.
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
      const { filter } = this.list;
      const nodes = topLevel(filtered(await this.list.all(), filter));
      if (nodes.length > 0 || filter === "") return nodes;
      return [{ kind: "message", message: vscode.l10n.t("No run has: {0}", filter) }];
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
        const item = new vscode.TreeItem(node.stage.name ?? node.stage.id, vscode.TreeItemCollapsibleState.None);
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
    const live = this.working(summary.directory);
    const item = new vscode.TreeItem(name, vscode.TreeItemCollapsibleState.Collapsed);
    const shown = live ? { ...summary, state: "running" as const } : summary;
    const { icon, colour } = runFace(shown);
    item.id = summary.directory;
    item.description = live ? progressLine(live, vscode.l10n.t) : runDescription(shown, dateOf(summary, "short"));
    item.iconPath = new vscode.ThemeIcon(icon, colour === null ? undefined : new vscode.ThemeColor(colour));
    const label = runLabel({ ...shown, name }, dateOf(summary, "long"), vscode.l10n.t);
    item.accessibilityInformation = { label };
    item.tooltip = [label, summary.error && editorWords(summary.error.message, vscode.l10n.t), summary.directory]
      .filter(Boolean)
      .join("\n\n");
    item.command = opens(summary.directory);
    item.contextValue = runContext(
      "run",
      summary.directory,
      live && !live.elsewhere ? "live" : shown.state,
      existsSync,
    );
    return item;
  }

  private comparisonItem(summary: ComparisonSummary): vscode.TreeItem {
    const { directory, name, state, cells, done, failed, tags } = summary;
    const live = this.working(directory);
    const item = new vscode.TreeItem(name, vscode.TreeItemCollapsibleState.Collapsed);
    const counts = vscode.l10n.t("{0} of {1} cells", done, cells);
    const failures = failed > 0 ? `, ${vscode.l10n.t("{0} failed", failed)}` : "";
    const described = [`${state} · ${counts}${failures}`, ...tags.map((tag) => `#${tag}`)].join(" · ");
    const isWorking = live !== null || state === "running";
    item.id = directory;
    item.description = live ? progressLine(live, vscode.l10n.t) : described;
    item.iconPath = new vscode.ThemeIcon(isWorking ? "sync~spin" : failed > 0 ? "warning" : "graph-scatter");
    item.tooltip = `${name}: ${described}\n\n${directory}`;
    item.accessibilityInformation = { label: `${name}, ${vscode.l10n.t("comparison")}, ${described}` };
    item.command = opens(directory);
    item.contextValue = runContext("comparison", directory, live ? "live" : state, existsSync);
    return item;
  }

  private working(directory: string): LiveRun | null {
    const live = this.tracker.get(directory);
    return live !== null && isUnfinished(live) ? live : null;
  }
}

function opens(runDirectory: string): vscode.Command {
  return { command: "reroute.openRun", title: vscode.l10n.t("Open Run"), arguments: [{ runDirectory }] };
}

function dateOf({ createdAt }: RunSummary, style: "short" | "long"): string {
  const date = new Date(createdAt);
  return style === "short"
    ? date.toLocaleDateString(vscode.env.language, { day: "numeric", month: "short" })
    : date.toLocaleString(vscode.env.language, { dateStyle: "long", timeStyle: "short" });
}
