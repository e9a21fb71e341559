import * as vscode from "vscode";
import type { Services } from "../services";
import { linkOf } from "./links";

/** Opens what links name, as long as it belongs to this workspace. */
export function registerUriHandler({ runList }: Services): vscode.Disposable {
  return vscode.window.registerUriHandler({
    handleUri: async ({ path, query }) => {
      const link = linkOf(path, query);
      if (link?.kind === "run") {
        const { runs } = await runList.fresh();
        if (runs.some(({ directory }) => directory === link.directory)) {
          await vscode.commands.executeCommand("reroute.openRun", { runDirectory: link.directory });
          return;
        }
      }
      if (link?.kind === "file") {
        const uri = vscode.Uri.file(link.file);
        if (vscode.workspace.getWorkspaceFolder(uri)) {
          await vscode.commands.executeCommand("vscode.open", uri);
          return;
        }
      }
      void vscode.window.showErrorMessage(
        vscode.l10n.t("The link names nothing of this workspace: open the folder that it belongs to first"),
      );
    },
  });
}
