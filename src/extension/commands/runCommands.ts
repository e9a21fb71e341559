import path from "node:path";
import * as vscode from "vscode";
import { comparisonFiles, type ComparisonSummary } from "../../protocol/compare";
import type { RunSummary } from "../../protocol/panels";
import { runFiles } from "../../protocol/run";
import { comparisonOf, isComparison } from "../runs/comparisonFolders";
import { resumeInBackground as resume } from "../runs/runInBackground";
import type { Services } from "../services";
import { chooseFrom, directoryOf, pickRun, runItem, type RunItem } from "./pickRun";

/** Continues a run or comparison that was interrupted, cancelled or failed. A cell is continued with its comparison. */
export async function resumeRunCommand(argument: unknown, services: Services): Promise<void> {
  const { runs, comparisons } = await services.runList.fresh();
  const named = directoryOf(argument);
  const target =
    named === null
      ? await chooseFrom(resumable(runs, comparisons))
      : (comparisons.find(({ directory }) => directory === named || directory === comparisonOf(named)) ??
        runs.find(({ directory }) => directory === named));
  if (target) await resume(target.directory, target.name, services);
}

function resumable(
  runs: RunSummary[],
  comparisons: ComparisonSummary[],
): RunItem<{ directory: string; name: string }>[] {
  const stopped = comparisons.filter(({ state }) => state === "interrupted" || state === "failed");
  const own = runs.filter(
    ({ directory, state }) =>
      comparisonOf(directory) === null && ["interrupted", "cancelled", "failed", "pending"].includes(state),
  );
  return [
    ...stopped.map((value) => ({
      label: value.name,
      description: vscode.l10n.t("{0} of {1} cells", value.done, value.cells),
      value,
    })),
    ...own.map(runItem),
  ];
}

/** Cancels what this window, or another process, works on; the run, comparison or cell that a tree or page names, or else the first. */
export async function cancelRun(argument: unknown, services: Services): Promise<void> {
  const unfinished = services.runs.shown();
  const named = directoryOf(argument);
  const live =
    named === null
      ? unfinished[0]
      : unfinished.find(({ runDirectory }) => runDirectory === named || runDirectory === comparisonOf(named));
  if (live && !live.elsewhere) {
    services.runs.cancel(live.runDirectory);
    return;
  }
  const directory = live?.runDirectory ?? (await workedOn(named, services));
  if (directory === null) {
    void vscode.window.showInformationMessage(vscode.l10n.t("Nothing works on such a run"));
    return;
  }
  // The process that works on it looks for this; of a comparison's cell, the comparison is meant.
  await services.engine.request("run/cancel", { directory: comparisonOf(directory) ?? directory });
  services.runs.observed(directory, { type: "cancelAsked" });
}

/** The named run or comparison, if its files say that a process works on it. */
async function workedOn(named: string | null, { runList }: Services): Promise<string | null> {
  if (named === null) return null;
  const { runs, comparisons } = await runList.fresh();
  const found = [...runs, ...comparisons].find(({ directory }) => directory === named);
  return found?.state === "running" ? named : null;
}

/** Shows the folder of a run or comparison in the system's file browser, or its run.json where there is none. */
export async function openRunFolder(argument: unknown, services: Services): Promise<void> {
  const named = directoryOf(argument);
  const comparison = named !== null && isComparison(named) ? path.join(named, comparisonFiles.comparison) : null;
  const run = comparison === null ? await pickRun(argument, services) : null;
  const shown = comparison ?? (run && path.join(run.directory, runFiles.run));
  if (shown === null) return;
  const file = vscode.Uri.file(shown);
  if (vscode.env.remoteName === undefined && vscode.env.uiKind === vscode.UIKind.Desktop) {
    await vscode.commands.executeCommand("revealFileInOS", file);
  } else {
    await vscode.window.showTextDocument(file);
  }
}
