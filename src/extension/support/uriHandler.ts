import * as vscode from "vscode";
import type { CheckpointNode, CheckpointsTree } from "../checkpoints/checkpointsTree";
import { showFailure } from "../failure";
import type { Services } from "../services";
import { linkOf, type Link } from "./links";

/** Shows what links name, as long as it is listed in this window or lies in its workspace. */
export class LinkHandler implements vscode.UriHandler {
  constructor(
    private readonly services: Pick<Services, "runList" | "log">,
    private readonly tree: Pick<CheckpointsTree, "nodeOf">,
    private readonly view: Pick<vscode.TreeView<CheckpointNode>, "reveal">,
  ) {}

  async handleUri({ path, query }: Pick<vscode.Uri, "path" | "query">): Promise<void> {
    const link = linkOf(path, query);
    try {
      if (link && (await this.show(link))) return;
      void vscode.window.showErrorMessage(
        vscode.l10n.t("The link names nothing of this workspace: open the folder that it belongs to first"),
      );
    } catch (error) {
      showFailure(error, this.services.log);
    }
  }

  /** False: it is not of this workspace. */
  private async show(link: Link): Promise<boolean> {
    switch (link.kind) {
      case "run": {
        const { runs, comparisons } = await this.services.runList.fresh();
        if (![...runs, ...comparisons].some(({ directory }) => directory === link.path)) return false;
        await vscode.commands.executeCommand("reroute.openRun", { runDirectory: link.path });
        return true;
      }
      case "checkpoint": {
        const node = await this.tree.nodeOf(link.path);
        if (!node) return false;
        await this.view.reveal(node, { select: true, focus: true, expand: true });
        return true;
      }
      case "file": {
        const uri = vscode.Uri.file(link.path);
        if (!vscode.workspace.getWorkspaceFolder(uri)) return false;
        await vscode.commands.executeCommand("vscode.open", uri);
        return true;
      }
    }
  }
}
