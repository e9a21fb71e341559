import * as vscode from "vscode";
import type { Purpose } from "../wizard/questions";
import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import type { ComparisonRecipe } from "../../protocol/compare";
import type { Recipe } from "../../protocol/recipe";
import { startRun } from "../runs/runInBackground";
import type { Services } from "../services";
import { runWizard } from "../wizard/wizard";
import { pickCheckpoint } from "./pickCheckpoint";

/** Calibrate, compress, profile, evaluate, compare: a checkpoint, then questions, then a run. */
export async function wizardCommand(
  purpose: Exclude<Purpose, "compareMethods">,
  argument: unknown,
  services: Services,
): Promise<void> {
  const folder = await pickCheckpoint(argument, services);
  if (folder === null) return;
  const checkpoint = await inspectSupported(folder, services);
  if (!checkpoint) return;
  const result = await runWizard(purpose, checkpoint, services);
  if (!result) return;
  if (result.action === "edit") return editAsRecipe(result.recipe, ".reroute.json");
  const runDirectory = await startRun(result.recipe, result.baseFolder, services, result.action === "force");
  if (purpose === "calibrate") {
    await vscode.commands.executeCommand("reroute.openCalibration", { runDirectory });
  }
}

/** The checkpoint's summary; null, with the reason shown, where its family is not supported. */
export async function inspectSupported(folder: string, { checkpoints }: Services): Promise<CheckpointSummary | null> {
  const checkpoint = await checkpoints.inspect(folder);
  if (checkpoint.supported) return checkpoint;
  void vscode.window.showErrorMessage(checkpoint.unsupportedReason ?? vscode.l10n.t("Not supported"));
  return null;
}

/** All options in an editor with completion; saved as a file it can be run. Nothing is written by itself. */
export async function editAsRecipe(recipe: Recipe | ComparisonRecipe, ending: string): Promise<void> {
  const content = `${JSON.stringify(recipe, null, 2)}\n`;
  const document = await vscode.workspace.openTextDocument({ language: "json", content });
  await vscode.window.showTextDocument(document);
  void vscode.window.showInformationMessage(
    vscode.l10n.t("Save it with a name that ends in {0}, then choose the command above the first line", ending),
  );
}
