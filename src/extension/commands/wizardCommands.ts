import * as vscode from "vscode";
import type { Purpose } from "../wizard/questions";
import type { Recipe } from "../../protocol/recipe";
import { startRun } from "../runs/runInBackground";
import type { Services } from "../services";
import { runWizard } from "../wizard/wizard";
import { pickCheckpoint } from "./pickCheckpoint";

/** Calibrate, compress, profile, evaluate, compare: a checkpoint, then questions, then a run. */
export async function wizardCommand(purpose: Purpose, argument: unknown, services: Services): Promise<void> {
  const folder = await pickCheckpoint(argument, services);
  if (folder === null) return;
  const checkpoint = await services.checkpoints.inspect(folder);
  if (!checkpoint.supported) {
    const reason = checkpoint.unsupportedReason ?? vscode.l10n.t("Not supported");
    void vscode.window.showErrorMessage(reason);
    return;
  }
  const result = await runWizard(purpose, checkpoint, services);
  if (!result) return;
  if (result.action === "edit") return editAsRecipe(result.recipe);
  const runDirectory = await startRun(result.recipe, result.baseFolder, services);
  if (purpose === "calibrate") {
    await vscode.commands.executeCommand("reroute.openCalibration", { runDirectory });
  }
}

/** All options in an editor with completion; saved as a file it can be run. Nothing is written by itself. */
async function editAsRecipe(recipe: Recipe): Promise<void> {
  const content = `${JSON.stringify(recipe, null, 2)}\n`;
  const document = await vscode.workspace.openTextDocument({ language: "json", content });
  await vscode.window.showTextDocument(document);
  void vscode.window.showInformationMessage(
    vscode.l10n.t("Save it with a name that ends in .reroute.json, then choose Run above the first line"),
  );
}
