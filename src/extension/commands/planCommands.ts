import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { RerouteError } from "../../protocol/errors";
import type { Recipe } from "../../protocol/recipe";
import { runFiles } from "../../protocol/run";
import { planModel, planViewType } from "../editors/planDocument";
import { openNewRecipe } from "../recipes/newRecipe";
import { startInBackground } from "../runs/runInBackground";
import { safeName } from "../runs/runName";
import type { Services } from "../services";
import { workspaceFolder } from "../settings";
import { summaryStep } from "../wizard/summaryStep";
import { pickRun } from "./pickRun";
import { recipeAgain } from "./runEdits";

/** Opens the plan of a run on its page. */
export async function openPlan(argument: unknown, services: Services): Promise<void> {
  const run = await pickRun(argument, services);
  if (!run) return;
  const file = path.join(run.directory, runFiles.plan);
  if (!existsSync(file))
    throw new RerouteError(
      "run/invalid",
      vscode.l10n.t("The run {0} has made no plan: it compresses nothing", run.name),
    );
  await vscode.commands.executeCommand("vscode.openWith", vscode.Uri.file(file), planViewType);
}

/** Compresses as a plan says: like the run it comes from with everything else as it was, after the pre-flight. */
export async function compressWithPlan(argument: unknown, services: Services): Promise<void> {
  const uri = argument instanceof vscode.Uri ? argument : activePlan();
  if (!uri) return;
  const document = await vscode.workspace.openTextDocument(uri);
  if (document.isDirty && !(await document.save())) return;
  const { runDirectory, checkpoint } = planModel(uri, services);
  if (runDirectory === undefined) return newRecipe(uri, checkpoint);
  const again = await recipeAgain({ runDirectory }, services);
  if (!again) return;
  const name = vscode.l10n.t("{0}, edited plan", again.recipe.name ?? path.basename(runDirectory));
  const { compress } = again.recipe;
  const recipe: Recipe = {
    ...again.recipe,
    name,
    compress: { ...(compress ?? compressDefaults), plan: uri.fsPath },
  };
  const title = vscode.l10n.t("Compress with {0}", path.basename(uri.fsPath));
  const choice = await summaryStep(
    { title, step: 1, totalSteps: 1, canGoBack: false },
    recipe,
    again.baseFolder,
    services,
  );
  if (typeof choice === "symbol") return;
  if (choice === "edit") await openNewRecipe(path.dirname(uri.fsPath), safeName(name), recipe);
  else await startInBackground(recipe, again.baseFolder, services, choice === "force");
}

const compressDefaults = {
  method: "reap",
  keep: 0.625,
  protectSuperExperts: "off",
  reapWeights: "model",
  groupLimits: "keep",
  options: {},
} as const;

/** Without a run nothing says which text to evaluate on: a recipe, to be filled in. */
async function newRecipe(uri: vscode.Uri, checkpoint: string | undefined): Promise<void> {
  const folder = workspaceFolder(uri.fsPath) ?? path.dirname(uri.fsPath);
  const text = JSON.stringify(
    {
      schemaVersion: 1,
      teacher: checkpoint ?? "TEACHER",
      data: { calibration: "TEXT" },
      compress: { plan: path.relative(folder, uri.fsPath) },
      output: "OUTPUT",
    },
    null,
    2,
  );
  const snippet = new vscode.SnippetString(
    text
      .replaceAll("$", "\\$")
      .replace("TEACHER", "${1:teacher}")
      .replace('"TEXT"', '"${2:calibration.txt}"')
      .replace('"OUTPUT"', '"${3:output}"'),
  );
  await openNewRecipe(folder, "compress", snippet);
}

function activePlan(): vscode.Uri | null {
  const input = vscode.window.tabGroups.activeTabGroup.activeTab?.input;
  return input instanceof vscode.TabInputCustom && input.viewType === planViewType ? input.uri : null;
}
