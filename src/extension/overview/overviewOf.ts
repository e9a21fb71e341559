import * as vscode from "vscode";
import type { OverviewData } from "../../protocol/pageMessages";
import { cellFolder } from "../runs/comparisonFolders";
import { overallProgress } from "../runs/liveRun";
import type { Services } from "../services";

/** What the Overview shows: the run being worked on or else the latest one, the engine, and other runs. */
export async function overviewOf({ engine, runs, runList }: Services): Promise<OverviewData> {
  const summaries = await runList.get().catch(() => []);
  const live = runs.unfinished()[0] ?? null;
  // Of a comparison, the cell being worked on.
  const directory = live?.cell ? cellFolder(live.runDirectory, live.cell.id) : live?.runDirectory;
  const shown = live ? summaries.find((summary) => summary.directory === directory) : summaries[0];
  const { fraction, remainingSeconds } = live ? overallProgress(live) : { fraction: null, remainingSeconds: null };
  const latest = live ?? (shown ? runs.get(shown.directory) : null);
  return {
    engine: engine.getState(),
    run: shown ? { ...shown, state: live ? "running" : shown.state } : null,
    progress: live?.progress ?? null,
    runFraction: fraction,
    runRemainingSeconds: remainingSeconds,
    heldOut: latest?.heldOut ?? [],
    latestLoss: latest?.latestLoss ?? null,
    recentRuns: summaries.filter((summary) => summary !== shown).slice(0, 10),
    trusted: vscode.workspace.isTrusted,
  };
}
