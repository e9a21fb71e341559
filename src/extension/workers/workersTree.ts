import * as vscode from "vscode";
import { formatBytes, formatCount } from "../../protocol/quantities";
import type { QueueStatus, WorkerStatus } from "../../protocol/workers";
import type { Services } from "../services";
import { lostWorkers } from "./lostWorkers";
import { queueChoice, queueFolder } from "./queueChoice";
import { hostNodes, summaryOf, threadWords, workerFacts, type HostNode } from "./workerFacts";

export type WorkerNode =
  | { kind: "message"; label: string; detail: string; icon: string }
  | ({ kind: "host" } & HostNode)
  | { kind: "worker"; worker: WorkerStatus };

/** Milliseconds between two looks at the queue while the view is shown. */
const lookEveryMs = 5000;

/** Who is at the queue: a row a worker, or a host where there are many; asked of the engine while the view is shown. */
export class WorkersTree implements vscode.TreeDataProvider<WorkerNode>, vscode.Disposable {
  private readonly changed = new vscode.EventEmitter<void>();
  readonly onDidChangeTreeData = this.changed.event;
  private status: QueueStatus | null = null;
  private error: string | null = null;
  private view: vscode.TreeView<WorkerNode> | null = null;
  private timer: NodeJS.Timeout | undefined;
  private looking = false;
  private shown = "";

  constructor(private readonly services: Pick<Services, "context" | "engine" | "runs">) {}

  /** The view that shows it: it says above the rows what they come to, and only while it is visible the queue is asked. */
  attach(view: vscode.TreeView<WorkerNode>): void {
    this.view = view;
    view.onDidChangeVisibility(({ visible }) => (visible ? this.refresh() : clearTimeout(this.timer)));
    if (view.visible) this.refresh();
  }

  /** Asks now; also after another queue or password was set. */
  refresh(): void {
    clearTimeout(this.timer);
    void this.look();
  }

  getChildren(node?: WorkerNode): WorkerNode[] {
    if (node?.kind === "host") return node.workers.map((worker) => ({ kind: "worker", worker }));
    if (node) return [];
    if (this.error !== null)
      return [{ kind: "message", label: vscode.l10n.t("The queue cannot be used"), detail: this.error, icon: "error" }];
    if (!this.status) return [];
    const problems = this.status.checks
      .filter(({ state, name }) => state === "problem" || (state === "warning" && name === "Eviction"))
      .map(({ name, state, detail }): WorkerNode => ({
        kind: "message",
        ...{ label: asksForPassword(detail) ? vscode.l10n.t("The queue asks for a password") : name },
        ...{ detail, icon: state === "problem" ? "error" : "warning" },
      }));
    const hosts = hostNodes(this.status.workers);
    const rows: WorkerNode[] =
      hosts === null
        ? this.status.workers.map((worker) => ({ kind: "worker", worker }))
        : hosts.map((host) => ({ kind: "host", ...host }));
    return [...problems, ...rows];
  }

  getTreeItem(node: WorkerNode): vscode.TreeItem {
    if (node.kind === "message") {
      const item = new vscode.TreeItem(node.label);
      item.description = node.detail;
      item.tooltip = node.detail;
      item.iconPath = new vscode.ThemeIcon(node.icon);
      item.accessibilityInformation = { label: `${node.label}: ${node.detail}` };
      if (asksForPassword(node.detail))
        item.command = { command: "reroute.setQueuePassword", title: vscode.l10n.t("Set Queue Password...") };
      return item;
    }
    if (node.kind === "host") {
      const item = new vscode.TreeItem(node.host, vscode.TreeItemCollapsibleState.Collapsed);
      item.id = `host ${node.host}`;
      item.description = summaryOf(node.workers, vscode.l10n.t);
      item.tooltip = `${node.host}: ${item.description}`;
      item.iconPath = new vscode.ThemeIcon("server");
      item.accessibilityInformation = { label: `${node.host}, ${item.description}` };
      return item;
    }
    const { worker } = node;
    const { description, icon, state } = workerFacts(worker, vscode.l10n.t);
    const item = new vscode.TreeItem(worker.name);
    item.id = `worker ${worker.name}`;
    item.description = description;
    item.iconPath = new vscode.ThemeIcon(icon);
    item.tooltip = [
      worker.name,
      state,
      vscode.l10n.t(
        "Host {0}, {1}, {2}",
        worker.host,
        threadWords(worker, vscode.l10n.t),
        formatBytes(worker.memoryBytes),
      ),
      vscode.l10n.t("{0} tiles done since it began", formatCount(worker.tiles)),
      vscode.l10n.t("Numerics {0}: {1}", worker.numerics, worker.about),
    ].join("\n");
    item.accessibilityInformation = { label: `${worker.name}, ${worker.host}, ${description}` };
    item.contextValue = worker.eligible ? "worker.eligible" : "worker.other";
    return item;
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.changed.dispose();
  }

  private async look(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    try {
      const queue = await queueChoice(this.services.context, queueFolder());
      const status = queue && (await this.services.engine.request("queue/status", { queue }));
      const lost = status ? await lostWorkers(this.services.runs.shown(), status.workers) : [];
      this.status = status && { ...status, workers: [...status.workers, ...lost] };
      this.error = null;
    } catch (error) {
      this.status = null;
      this.error = error instanceof Error ? error.message : String(error);
    }
    this.looking = false;
    this.tell();
    clearTimeout(this.timer);
    if (this.view?.visible) this.timer = setTimeout(() => void this.look(), lookEveryMs);
  }

  /** A tree that is drawn again loses what a screen reader was at: only for news. */
  private tell(): void {
    const now = JSON.stringify([this.status, this.error]);
    if (now === this.shown) return;
    this.shown = now;
    if (this.view) {
      const workers = this.status?.workers ?? [];
      this.view.message = workers.length === 0 ? "" : summaryOf(workers, vscode.l10n.t);
    }
    this.changed.fire();
  }
}

/** As Redis and Valkey say it. */
function asksForPassword(detail: string): boolean {
  return /\b(NOAUTH|WRONGPASS)\b/.test(detail);
}
