import * as vscode from "vscode";
import type { RunSummary } from "../../protocol/panels";
import type { Services } from "../services";

/** The run a command is about: the tree's item, the one a page names, or what the user picks among `suitable` ones. */
export async function pickRun(
  argument: unknown,
  { runList }: Services,
  suitable: (run: RunSummary) => boolean = () => true,
): Promise<RunSummary | null> {
  const { runs } = await runList.fresh();
  const named = directoryOf(argument);
  if (named !== null) return runs.find(({ directory }) => directory === named) ?? null;
  return chooseFrom(runs.filter(suitable).map(runItem));
}

export interface RunItem<T> extends vscode.QuickPickItem {
  value: T;
}

export function runItem(run: RunSummary): RunItem<RunSummary> {
  return {
    label: run.name,
    description: run.verdict ?? run.state,
    detail: new Date(run.createdAt).toLocaleString(vscode.env.language),
    value: run,
  };
}

/** Lets the user pick; the only one is taken, and where there is none that is said. */
export async function chooseFrom<T>(items: RunItem<T>[]): Promise<T | null> {
  if (items.length === 0) {
    void vscode.window.showInformationMessage(vscode.l10n.t("There is no run that this could be done with"));
    return null;
  }
  const placeHolder = vscode.l10n.t("Which run?");
  const picked = items.length === 1 ? items[0] : await vscode.window.showQuickPick(items, { placeHolder });
  return picked?.value ?? null;
}

/** The folder of the run or comparison that a command's argument names; null when it names none. */
export function directoryOf(argument: unknown): string | null {
  if (typeof argument !== "object" || argument === null) return null;
  if ("runDirectory" in argument && typeof argument.runDirectory === "string") return argument.runDirectory;
  if ("summary" in argument) return (argument.summary as RunSummary).directory;
  return null;
}
