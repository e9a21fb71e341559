import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import type { ComparisonStart } from "../../protocol/engine";
import { namedStudent } from "../../protocol/denseStudent";
import type { Recipe } from "../../protocol/recipe";
import { RerouteError } from "../../protocol/errors";
import { runFiles } from "../../protocol/run";
import { withAbsolutePaths } from "../../protocol/recipePaths";
import { editorWords } from "../editorWords";
import { showFailure, type FailedRun } from "../failure";
import { openNewRecipe } from "../recipes/newRecipe";
import type { Services } from "../services";
import { readSettings, workspaceFolder } from "../settings";
import { queueOf } from "../workers/queueChoice";
import { isComparison } from "./comparisonFolders";
import { editComparison, readWritten } from "./editComparison";
import { isUnfinished, overallProgress, forceableRefusal, type LiveRun } from "./liveRun";
import { endOf, progressLine } from "./runMessages";
import { nextFree } from "./runAgain";
import { runId, safeName } from "./runName";

/**
 * Starts a recipe in a new run folder and shows its progress; returns once it has begun.
 * @param force goes on where the pre-flight refuses what may be forced
 */
export async function startInBackground(
  recipe: Recipe,
  baseFolder: string,
  services: Services,
  force = false,
): Promise<string> {
  const { runs, runList } = services;
  const name = recipe.name ?? path.basename(namedStudent(recipe) ?? recipe.teacher);
  const folder = runList.folderFor(baseFolder);
  const id = runId(name, new Date(), (candidate) => existsSync(path.join(folder, candidate)));
  const runDirectory = path.join(folder, id);
  tellDisconnectPolicy(services);
  const spread = await queueOf(services.context, baseFolder);
  const work = (forced: boolean) =>
    runs.start({ runDirectory, name, recipe, baseFolder, ...spread, ...(forced ? { force: true } : {}) });
  const startIn = async (parent: string) => {
    const output = nextFree(path.join(parent, path.basename(recipe.output)), existsSync);
    await startInBackground({ ...recipe, output }, baseFolder, services, force);
  };
  const editRecipe = async () => {
    const parent = workspaceFolder(baseFolder) ?? baseFolder;
    await openNewRecipe(parent, safeName(name), withAbsolutePaths(recipe, baseFolder));
  };
  showRun({ kind: "run", runDirectory, name, work, refused: { startIn, editRecipe } }, services, force);
  return runDirectory;
}

/** Continues the folder of a run or a comparison where it stopped. */
export async function resumeInBackground(runDirectory: string, name: string, services: Services): Promise<void> {
  const { runs } = services;
  tellDisconnectPolicy(services);
  const spread = await queueOf(services.context, runDirectory);
  const optionsOf = (forced: boolean) => ({ ...spread, ...(forced ? { force: true } : {}) });
  const shown: Shown = isComparison(runDirectory)
    ? {
        kind: "comparison",
        runDirectory,
        name,
        work: (forced) => runs.resumeComparison(runDirectory, name, optionsOf(forced)),
        refused: { editRecipe: async () => editComparison(readWritten(runDirectory)) },
      }
    : { kind: "run", runDirectory, name, work: (forced) => runs.resume(runDirectory, name, optionsOf(forced)) };
  showRun(shown, services);
}

/**
 * Starts a comparison in a folder, or continues the one that is there; returns once it has begun.
 * @param force its cells go on where the pre-flight refuses what may be forced
 */
export async function compareInBackground(start: ComparisonStart, services: Services, force = false): Promise<void> {
  tellDisconnectPolicy(services);
  const spread = await queueOf(services.context, start.baseFolder);
  const work = (forced: boolean) =>
    services.runs.startComparison({ ...start, ...spread, ...(forced ? { force: true } : {}) });
  const refused = { editRecipe: () => editComparison(start) };
  const shown: Shown = { kind: "comparison", runDirectory: start.directory, name: start.name, work, refused };
  showRun(shown, services, force);
}

/** What the engine does with runs once this window is gone, as the setting says now. */
export function tellDisconnectPolicy({ engine }: Pick<Services, "engine">): void {
  engine.onDisconnect(readSettings().onWindowClose === "continue" ? "finish-runs" : "exit");
}

interface Shown extends FailedRun {
  name: string;
  /** Works on the run until it ends, however it ends; `forced` goes on where it may be forced. */
  work: (forced: boolean) => Promise<LiveRun>;
}

/** After this long a run's notification makes room; the status bar and the Overview go on. */
const notificationMs = 60_000;

/** One notification for a run's beginning: stage, percentage, time left, Cancel. The run does not depend on it. */
function showRun(shown: Shown, services: Services, forced = false): void {
  const { runDirectory, name, work } = shown;
  const { runs } = services;
  const end = work(forced);
  void vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: name, cancellable: true },
    async (progress, token) => {
      let told = 0;
      token.onCancellationRequested(() => runs.cancel(runDirectory));
      const timer = setInterval(() => {
        const live = runs.get(runDirectory);
        if (!live || !isUnfinished(live)) return;
        const percent = 100 * (overallProgress(live).fraction ?? 0);
        progress.report({ message: progressLine(live, vscode.l10n.t), increment: Math.max(0, percent - told) });
        told = Math.max(told, percent);
      }, 500);
      let folding: NodeJS.Timeout | undefined;
      const folded = new Promise((resolve) => (folding = setTimeout(resolve, notificationMs)));
      try {
        await Promise.race([end, folded]);
      } finally {
        clearInterval(timer);
        clearTimeout(folding);
      }
    },
  );
  void end.then(async (live) => {
    const refusal = forced ? null : forceableRefusal(live);
    if (refusal !== null && (await goesOnAnyway(live.name, refusal))) showRun(shown, services, true);
    else if (refusal === null || live.comparison?.cells.some(({ state }) => state === "done"))
      await tellEnd(live, shown, services);
    else services.runList.refresh();
  });
}

/** Nothing has been written of a run, or a cell, that may be forced: the user may want its figures all the same. */
async function goesOnAnyway(
  name: string,
  { code, message: why }: NonNullable<ReturnType<typeof forceableRefusal>>,
): Promise<boolean> {
  const goOn =
    code === "data/trained-on" ? vscode.l10n.t("Evaluate All the Same") : vscode.l10n.t("Start All the Same");
  const message = `${name}: ${editorWords(why, vscode.l10n.t)} (${code})`;
  return (await vscode.window.showWarningMessage(message, goOn)) === goOn;
}

async function tellEnd(live: LiveRun, shown: FailedRun, services: Services): Promise<void> {
  services.runList.refresh();
  services.checkpoints.refresh();
  if (live.phase === "failed" && live.error) return tellFailure(live, live.error, shown, services);
  if (live.phase !== "done") return;
  const { title, offers, isWarning } = endOf(live, vscode.l10n.t);
  // Nothing opens over what somebody works on: the panels are offered.
  const tell = isWarning ? vscode.window.showWarningMessage : vscode.window.showInformationMessage;
  const choice = await tell(title, ...offers.map(({ label }) => label));
  const chosen = offers.find(({ label }) => label === choice);
  if (chosen) await vscode.commands.executeCommand(chosen.command, { runDirectory: live.runDirectory });
}

async function tellFailure(
  live: LiveRun,
  error: NonNullable<LiveRun["error"]>,
  { kind, runDirectory, refused }: FailedRun,
  services: Services,
): Promise<void> {
  const { runs, log } = services;
  if (error.code !== "engine/closed") {
    // The recipe of a run that is there comes from its folder.
    const isThere = existsSync(path.join(runDirectory, runFiles.run));
    showFailure(new RerouteError(error.code, `${live.name}: ${error.message}`), log, {
      ...{ kind, runDirectory },
      ...(isThere || !refused ? {} : { refused }),
    });
    return;
  }
  const resume = vscode.l10n.t("Resume");
  const openLog = vscode.l10n.t("Show Engine Log");
  const message = vscode.l10n.t(
    "The engine process ended while it worked on {0}. What it had saved is kept: the run can be resumed.",
    live.name,
  );
  const choice = await vscode.window.showErrorMessage(message, resume, openLog);
  if (choice === openLog) log.show();
  if (choice !== resume) return;
  // The message stays until it is answered: the run may have been resumed elsewhere, and have ended, meanwhile.
  const now = runs.get(runDirectory);
  if (now && isUnfinished(now)) await vscode.commands.executeCommand("reroute.overview.focus");
  else if (now?.phase === "done") await tellEnd(now, { kind, runDirectory }, services);
  else await resumeInBackground(runDirectory, live.name, services);
}
