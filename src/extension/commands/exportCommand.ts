import * as vscode from "vscode";
import { divergenceCsv, routingCsv, similarityCsv, calibrationCsv, tradeOffCsv } from "../exports/panelCsv";
import { saveWithDialog } from "../exports/saveWithDialog";
import type { Services } from "../services";
import { pickRun } from "./pickRun";

/** Saves the numbers behind a panel of a run as CSV. */
export async function exportData(argument: unknown, services: Services): Promise<void> {
  const run = await pickRun(argument, services);
  if (!run) return;
  const { engine, runList } = services;
  const { directory: runDirectory } = run;
  const tables = [
    {
      label: vscode.l10n.t("Routing statistics"),
      name: "routing",
      read: async () => csv(await engine.request("panel/routing", { runDirectory }), routingCsv),
    },
    {
      label: vscode.l10n.t("Divergence"),
      name: "divergence",
      read: async () => csv(await engine.request("panel/divergence", { runDirectory }), divergenceCsv),
    },
    {
      label: vscode.l10n.t("Similarity of the first layer"),
      name: "similarity",
      read: async () => csv(await engine.request("panel/similarity", { runDirectory }), similarityCsv),
    },
    {
      label: vscode.l10n.t("Router KD"),
      name: "router-kd",
      read: async () => csv(await engine.request("panel/calibration", { runDirectory }), calibrationCsv),
    },
    {
      label: vscode.l10n.t("Trade-off over all runs"),
      name: "trade-off",
      read: async () => tradeOffCsv(await engine.request("panel/tradeOff", { runsFolder: runList.folder })),
    },
  ];
  const picked = await vscode.window.showQuickPick(tables, {
    placeHolder: vscode.l10n.t("Which numbers of {0}?", run.name),
  });
  if (!picked) return;
  const text = await picked.read();
  if (text === null) {
    void vscode.window.showInformationMessage(vscode.l10n.t("{0} holds no such data yet", run.name));
    return;
  }
  await saveWithDialog(`${run.id}-${picked.name}`, "csv", Buffer.from(text, "utf8"));
}

function csv<T>(data: T | null, write: (data: T) => string): string | null {
  return data === null ? null : write(data);
}
