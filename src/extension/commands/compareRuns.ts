import path from "node:path";
import * as vscode from "vscode";
import { maxCompared } from "../../protocol/pageMessages";
import type { RunSummary } from "../../protocol/panels";
import type { PanelHost } from "../panels/panelHost";
import { panelKinds, type PanelPage } from "../panels/pageKinds";
import { comparisonOf } from "../runs/comparisonFolders";
import type { Services } from "../services";
import { directoryOf, pickRun, runItem } from "./pickRun";

/** What a panel of several runs shows, and which runs have it. */
const offers: { page: PanelPage; detail: () => string; has: (run: RunSummary) => boolean }[] = [
  {
    page: "calibration",
    detail: () => vscode.l10n.t("held-out curves over one another"),
    has: ({ stages }) =>
      stages.some(({ id, state }) => id === "calibrate" && state !== "skipped" && state !== "pending"),
  },
  {
    page: "divergence",
    detail: () => vscode.l10n.t("maps beside each other on one scale, or their difference"),
    has: ({ klBefore, klAfter }) => klBefore !== null || klAfter !== null,
  },
  {
    page: "routing",
    detail: () => vscode.l10n.t("maps beside each other on one scale, or their difference"),
    has: ({ stages }) => stages.some(({ id, state }) => id === "profile" && state === "done"),
  },
  {
    page: "similarity",
    detail: () => vscode.l10n.t("maps beside each other on one scale, or their difference"),
    has: ({ stages }) => stages.some(({ id, state }) => id === "profile" && state === "done"),
  },
];

/** Puts two or more runs beside each other: those selected in the tree, or those that are picked. */
export async function compareRuns(
  argument: unknown,
  selected: unknown,
  services: Services,
  panels: PanelHost,
): Promise<void> {
  const runs = await chosenRuns(argument, selected, services);
  const [first, ...others] = runs;
  if (!first || others.length === 0) return;
  const page = await pickPage(runs);
  if (page === undefined) return;
  if (page === "tradeOff") {
    panels.show(page, { kind: "runs", runsFolder: folderOf(runs), only: runs.map(({ directory }) => directory) });
    return;
  }
  const compareWith = others.slice(0, maxCompared).map(({ directory }) => directory);
  panels.show(page, { kind: "run", runDirectory: first.directory, compareWith });
}

async function chosenRuns(argument: unknown, selected: unknown, services: Services): Promise<RunSummary[]> {
  const { runs } = await services.runList.fresh();
  const nodes = Array.isArray(selected) ? selected : [];
  const named = nodes.map(directoryOf).filter((one) => one !== null);
  const found = runs.filter(({ directory }) => named.includes(directory));
  if (found.length > 1) return found;
  const first = await pickRun(argument, services);
  if (!first) return [];
  const items = runs.filter((run) => run.directory !== first.directory).map(runItem);
  const picked = await vscode.window.showQuickPick(items, {
    canPickMany: true,
    placeHolder: vscode.l10n.t("Compare {0} with which runs?", first.name),
  });
  return [first, ...(picked ?? []).map(({ value }) => value)];
}

async function pickPage(runs: RunSummary[]): Promise<PanelPage | undefined> {
  const possible = offers.filter(({ has }) => runs.every(has));
  const items = possible.map(({ page, detail }) => ({ label: panelKinds[page].title(), description: detail(), page }));
  const tradeOff = {
    label: panelKinds.tradeOff.title(),
    description: vscode.l10n.t("these runs alone"),
    page: "tradeOff" as const,
  };
  const all = runs.some(({ klBefore, klAfter }) => klBefore !== null || klAfter !== null)
    ? [...items, tradeOff]
    : items;
  if (all.length === 0) {
    void vscode.window.showInformationMessage(vscode.l10n.t("These runs hold nothing of the same kind yet"));
    return undefined;
  }
  const picked = await vscode.window.showQuickPick<{ label: string; description: string; page: PanelPage }>(all, {
    placeHolder: vscode.l10n.t("What of these {0} runs?", runs.length),
  });
  return picked?.page;
}

/** The folder of runs that all of them lie below; cells of comparisons lie deeper. */
function folderOf(runs: RunSummary[]): string {
  const folders = runs.map(({ directory }) => path.dirname(comparisonOf(directory) ?? directory));
  return folders[0]!;
}
