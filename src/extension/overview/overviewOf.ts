import * as vscode from "vscode";
import type { OverviewData } from "../../protocol/pageData";
import type { RunSummary } from "../../protocol/panels";
import { editorWords } from "../editorWords";
import { cellFolder, comparisonOf } from "../runs/comparisonFolders";
import { overallProgress, type LiveRun } from "../runs/liveRun";
import type { Services } from "../services";

/** What the Overview shows: the run being worked on or else the latest one, the engine, and other runs. */
export async function overviewOf({ engine, runs, runList }: Services): Promise<OverviewData> {
  const summaries = await runList.get().catch(() => []);
  const live = runs.shown()[0] ?? null;
  const shown = live ? workedOn(live, summaries) : summaries[0];
  const { fraction, remainingSeconds } = live ? overallProgress(live) : { fraction: null, remainingSeconds: null };
  const latest = live ?? (shown ? runs.get(shown.directory) : null);
  return {
    engine: engine.getState(),
    run: shown ? { ...shown, state: live ? "running" : shown.state, error: saidHere(shown.error) } : null,
    progress: live?.progress ?? null,
    runFraction: fraction,
    runRemainingSeconds: remainingSeconds,
    heldOut: latest?.heldOut ?? [],
    latestLoss: latest?.latestLoss ?? null,
    recentRuns: summaries.filter((summary) => summary !== shown).slice(0, 10),
    trusted: vscode.workspace.isTrusted,
  };
}

function saidHere(error: RunSummary["error"]): RunSummary["error"] {
  return error && { ...error, message: editorWords(error.message, vscode.l10n.t) };
}

/** Of a comparison, the cell being worked on; until that has a folder, the one before it. */
function workedOn({ runDirectory, cell }: LiveRun, summaries: RunSummary[]): RunSummary | undefined {
  const directory = cell ? cellFolder(runDirectory, cell.id) : runDirectory;
  const isCell = (summary: RunSummary) => comparisonOf(summary.directory) === runDirectory;
  return summaries.find((summary) => summary.directory === directory) ?? summaries.find(isCell);
}
