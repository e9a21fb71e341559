import path from "node:path";
import * as vscode from "vscode";
import type { CheckpointSummary, HubModel, LayerSummary } from "../../protocol/checkpointSummary";
import { formatBytes, formatCount } from "../../protocol/quantities";
import { checkpointLabel, hubModelOf } from "./checkpointFolder";
import type { CheckpointFinder } from "./checkpointFinder";

type Size = { parameters: number; bytes: number };

export type CheckpointNode =
  | { kind: "checkpoint"; folder: string; parent: CheckpointNode | null }
  /** `isAlone`: the workspace has no checkpoint of its own. */
  | { kind: "hub"; folder: string; models: readonly HubModel[]; filter: string; isAlone: boolean }
  | { kind: "layer"; folder: string; layer: LayerSummary }
  | { kind: "moe"; folder: string; layer: LayerSummary; moe: NonNullable<LayerSummary["moe"]> }
  | { kind: "part"; folder: string; label: string; icon: string; size: Size; tooltip: string }
  | { kind: "message"; folder: string; message: string };

/** Checkpoints > layers > MoE block > router, experts, shared experts, with parameters and bytes. */
export class CheckpointsTree implements vscode.TreeDataProvider<CheckpointNode> {
  readonly onDidChangeTreeData: vscode.Event<void>;

  constructor(private readonly finder: CheckpointFinder) {
    this.onDidChangeTreeData = finder.onDidChange;
  }

  async getChildren(node?: CheckpointNode): Promise<CheckpointNode[]> {
    if (!node) {
      const own = await this.finder.list();
      return [...own.map((folder) => checkpointNode(folder, null)), ...(await this.hubNodes(own.length === 0))];
    }
    switch (node.kind) {
      case "hub":
        return node.models.map(({ directory }) => checkpointNode(directory, node));
      case "checkpoint":
        return this.layersOf(node.folder);
      case "layer":
        return node.layer.moe ? [{ kind: "moe", folder: node.folder, layer: node.layer, moe: node.layer.moe }] : [];
      case "moe":
        return partsOf(node.folder, node.moe);
      case "part":
      case "message":
        return [];
    }
  }

  /** Asked for by VS Code when a node is to be revealed, which checkpoints alone are. */
  getParent(node: CheckpointNode): CheckpointNode | null {
    return node.kind === "checkpoint" ? node.parent : null;
  }

  /** The listed checkpoint of a folder, or of a model's folder in a Hugging Face cache; null where none is listed. */
  async nodeOf(folder: string): Promise<CheckpointNode | null> {
    const roots = await this.getChildren();
    const below = await Promise.all(roots.filter(({ kind }) => kind === "hub").map((hub) => this.getChildren(hub)));
    const listed = [...roots, ...below.flat()].filter(({ kind }) => kind === "checkpoint");
    const isWithin = (node: CheckpointNode): boolean =>
      node.folder.startsWith(path.join(folder, "snapshots", path.sep));
    return listed.find((node) => node.folder === folder) ?? listed.find(isWithin) ?? null;
  }

  getTreeItem(node: CheckpointNode): vscode.TreeItem {
    const { Collapsed, Expanded, None } = vscode.TreeItemCollapsibleState;
    switch (node.kind) {
      case "checkpoint": {
        const item = new vscode.TreeItem(checkpointLabel(node.folder), Collapsed);
        // Two folders may be called the same.
        item.id = `${node.parent?.kind ?? "own"}:${node.folder}`;
        item.resourceUri = vscode.Uri.file(node.folder);
        const parent = path.dirname(vscode.workspace.asRelativePath(node.folder));
        const isInHub = hubModelOf(node.folder) !== null;
        // A snapshot's path holds nothing that its name does not say but a hash.
        item.description = isInHub || parent === "." ? "" : parent;
        item.iconPath = new vscode.ThemeIcon("package");
        item.tooltip = node.folder;
        item.contextValue = "checkpoint";
        return item;
      }
      case "hub": {
        const item = new vscode.TreeItem(vscode.l10n.t("Hugging Face cache"), node.isAlone ? Expanded : Collapsed);
        item.description = countOf(node.models.length) + (node.filter ? ` · "${node.filter}"` : "");
        item.iconPath = new vscode.ThemeIcon("cloud-download");
        item.tooltip = node.folder;
        item.contextValue = "hub";
        return item;
      }
      case "layer": {
        const item = sized(vscode.l10n.t("Layer {0}", node.layer.index), node.layer, node.layer.moe ? Collapsed : None);
        item.iconPath = new vscode.ThemeIcon("layers");
        if (!node.layer.moe) item.tooltip = vscode.l10n.t("A dense layer: no router");
        return item;
      }
      case "moe": {
        const item = sized(vscode.l10n.t("MoE block"), blockSize(node.moe), Collapsed);
        item.description = `${vscode.l10n.t("{0} experts", node.moe.numExperts)} · ${String(item.description)}`;
        item.iconPath = new vscode.ThemeIcon("type-hierarchy");
        return item;
      }
      case "part": {
        const item = sized(node.label, node.size, None);
        item.iconPath = new vscode.ThemeIcon(node.icon);
        item.tooltip = node.tooltip;
        return item;
      }
      case "message": {
        const item = new vscode.TreeItem(node.message, None);
        item.iconPath = new vscode.ThemeIcon("warning");
        item.tooltip = node.message;
        return item;
      }
    }
  }

  /** The Hugging Face cache where it holds models, or hides them by a filter. */
  private async hubNodes(isAlone: boolean): Promise<CheckpointNode[]> {
    const { cacheFolder, models, filter } = await this.finder.hubModels();
    return models.length > 0 || filter !== "" ? [{ kind: "hub", folder: cacheFolder, models, filter, isAlone }] : [];
  }

  private async layersOf(folder: string): Promise<CheckpointNode[]> {
    try {
      const summary = await this.finder.inspect(folder);
      return [...notes(folder, summary), ...summary.layers.map((layer) => ({ kind: "layer" as const, folder, layer }))];
    } catch (error) {
      return [{ kind: "message", folder, message: error instanceof Error ? error.message : String(error) }];
    }
  }
}

function checkpointNode(folder: string, parent: CheckpointNode | null): CheckpointNode {
  return { kind: "checkpoint", folder, parent };
}

/** What a user should know before the layers: why a checkpoint is not supported, what nothing reads, how it was read. */
function notes(folder: string, summary: CheckpointSummary): CheckpointNode[] {
  const { supported, unsupportedReason, unread, notes: read } = summary;
  const ofDecoder = unread.filter((group) => group.ofDecoder);
  const messages = [
    ...(supported ? [] : [unsupportedReason ?? vscode.l10n.t("Not supported")]),
    ...ofDecoder.map(({ pattern }) => vscode.l10n.t("Read by nothing, although the decoder has it: {0}", pattern)),
    ...read,
  ];
  return messages.map((message) => ({ kind: "message", folder, message }));
}

function partsOf(folder: string, moe: NonNullable<LayerSummary["moe"]>): CheckpointNode[] {
  const part = (label: string, icon: string, size: Size, tooltip: string): CheckpointNode => ({
    kind: "part",
    folder,
    label,
    icon,
    size,
    tooltip,
  });
  return [
    part(vscode.l10n.t("Router"), "git-merge", moe.router, moe.routerTensor),
    part(vscode.l10n.t("Experts"), "extensions", moe.experts, vscode.l10n.t("{0} routed experts", moe.numExperts)),
    ...(moe.sharedExperts
      ? [
          part(
            vscode.l10n.t("Shared experts"),
            "link",
            moe.sharedExperts,
            vscode.l10n.t("Every token passes through these"),
          ),
        ]
      : []),
  ];
}

function blockSize({ router, experts, sharedExperts }: NonNullable<LayerSummary["moe"]>): Size {
  const parts = [router, experts, sharedExperts ?? { parameters: 0, bytes: 0 }];
  return {
    parameters: parts.reduce((sum, { parameters }) => sum + parameters, 0),
    bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

function sized(label: string, { parameters, bytes }: Size, state: vscode.TreeItemCollapsibleState): vscode.TreeItem {
  const item = new vscode.TreeItem(label, state);
  item.description = vscode.l10n.t("{0} parameters, {1}", formatCount(parameters), formatBytes(bytes));
  return item;
}

function countOf(models: number): string {
  return models === 1 ? vscode.l10n.t("1 model") : vscode.l10n.t("{0} models", models);
}
