import * as vscode from "vscode";
import type { RunSummary } from "../../protocol/panels";
import type { Services } from "../services";

/** The run a command is about: the tree's item, the one a page names, or what the user picks among `suitable` ones. */
export async function pickRun(
  argument: unknown,
  { runList }: Services,
  suitable: (run: RunSummary) => boolean = () => true,
): Promise<RunSummary | null> {
  const runs = await runList.fresh();
  const named = directoryOf(argument);
  if (named !== null) return runs.find(({ directory }) => directory === named) ?? null;
  const candidates = runs.filter(suitable);
  if (candidates.length === 0) {
    void vscode.window.showInformationMessage(vscode.l10n.t("There is no run that this could be done with"));
    return null;
  }
  const items = candidates.map((run) => ({
    label: run.name,
    description: run.verdict ?? run.state,
    detail: new Date(run.createdAt).toLocaleString(vscode.env.language),
    run,
  }));
  const picked =
    items.length === 1
      ? items[0]
      : await vscode.window.showQuickPick(items, { placeHolder: vscode.l10n.t("Which run?") });
  return picked?.run ?? null;
}

function directoryOf(argument: unknown): string | null {
  if (typeof argument !== "object" || argument === null) return null;
  if ("runDirectory" in argument && typeof argument.runDirectory === "string") return argument.runDirectory;
  if ("summary" in argument) return (argument.summary as RunSummary).directory;
  return null;
}
