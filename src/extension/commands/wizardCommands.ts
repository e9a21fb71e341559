import path from "node:path";
import * as vscode from "vscode";
import type { Purpose } from "../wizard/questions";
import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import type { ComparisonRecipe } from "../../protocol/compare";
import type { Recipe } from "../../protocol/recipe";
import { showDocumentation } from "../failure";
import { openNewRecipe } from "../recipes/newRecipe";
import { startInBackground } from "../runs/runInBackground";
import { checkpointName, safeName } from "../runs/runName";
import type { Services } from "../services";
import { workspaceFolder } from "../settings";
import { runWizard } from "../wizard/wizard";
import { pickCheckpoint } from "./pickCheckpoint";

/** Calibrate, distil, compress, profile, evaluate, compare: a checkpoint, then questions, then a run. */
export async function wizardCommand(
  purpose: Exclude<Purpose, "compareMethods">,
  argument: unknown,
  services: Services,
): Promise<void> {
  const folder = await pickCheckpoint(argument, services);
  if (folder === null) return;
  const checkpoint = await inspectFor(purpose, folder, services);
  if (!checkpoint) return;
  const result = await runWizard(purpose, checkpoint, services);
  if (!result) return;
  if (result.action === "edit") return editAsRecipe(result.recipe, ".reroute.json");
  const runDirectory = await startInBackground(result.recipe, result.baseFolder, services, result.action === "force");
  if (purpose === "calibrate" || purpose === "distil") {
    await vscode.commands.executeCommand("reroute.openCalibration", { runDirectory });
  }
}

/** The checkpoint's summary; null, with what it is and why that does not do shown, where this cannot be done with it. */
export async function inspectFor(
  purpose: Purpose,
  folder: string,
  { checkpoints }: Services,
): Promise<CheckpointSummary | null> {
  const checkpoint = await checkpoints.inspect(folder);
  // A dense student is measured against the teacher that it names, or that is asked for.
  const isMeasured = purpose === "compare" || (purpose === "evaluate" && checkpoint.provenance !== null);
  if (checkpoint.supported || (checkpoint.isDense && isMeasured)) return checkpoint;
  const reason = checkpoint.unsupportedReason ?? vscode.l10n.t("Not supported");
  const documentation = vscode.l10n.t("Show Documentation");
  const shown = vscode.window.showErrorMessage(
    vscode.l10n.t("{0}: {1}", checkpointName(folder), reason),
    documentation,
  );
  void shown.then((choice) => (choice === documentation ? showDocumentation("families.md") : undefined));
  return null;
}

/** All options in an editor with completion, where it can be run at once. Nothing is written by itself. */
export async function editAsRecipe(
  recipe: Recipe | ComparisonRecipe,
  ending: ".reroute.json" | ".compare.reroute.json",
): Promise<void> {
  const folder = workspaceFolder(recipe.teacher) ?? path.dirname(recipe.teacher);
  await openNewRecipe(folder, safeName(recipe.name ?? ""), recipe, ending);
}
