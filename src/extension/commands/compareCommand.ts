import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { comparisonFiles, comparisonNameOf, type ComparisonRecipe } from "../../protocol/compare";
import type { ComparisonStart } from "../../protocol/engine";
import { isComparisonFile, parseComparison } from "../recipes/recipeProblems";
import { compareInBackground } from "../runs/runInBackground";
import type { Services } from "../services";
import { comparisonSummaryStep } from "../wizard/summaryStep";
import { runComparisonWizard } from "../wizard/wizard";
import { pickCheckpoint } from "./pickCheckpoint";
import { editAsRecipe, inspectFor } from "./wizardCommands";

/**
 * Compares compression methods and ratios over one teacher: a comparison file, or a checkpoint and questions. The
 * pre-flight is shown before anything starts; the Trade-off panel opens at the end.
 */
export async function compareMethods(argument: unknown, services: Services): Promise<void> {
  const file = argument === undefined ? await pickFile() : argument;
  if (file === null) return;
  if (file instanceof vscode.Uri && isComparisonFile(file.path)) return compareFile(file, services);
  const folder = await pickCheckpoint(file, services);
  const checkpoint = folder === null ? null : await inspectFor("compareMethods", folder, services);
  if (!checkpoint) return;
  const result = await runComparisonWizard(checkpoint, services);
  if (result?.action === "edit") return editAsRecipe(result.start.recipe, ".compare.reroute.json");
  if (result) await compareInBackground(result.start, services, result.action === "force");
}

async function compareFile(uri: vscode.Uri, services: Services): Promise<void> {
  const document = await vscode.workspace.openTextDocument(uri);
  const { recipe, problems } = parseComparison(document.getText());
  if (!recipe) {
    await vscode.window.showTextDocument(document);
    const problem = problems[0]?.message ?? "";
    void vscode.window.showErrorMessage(vscode.l10n.t("The comparison cannot be used: {0} (recipe/invalid)", problem));
    return;
  }
  const start = startOf(uri.fsPath, recipe, services.runList.folderFor(uri.fsPath));
  const frame = { title: vscode.l10n.t("Compare methods: {0}", start.name), step: 1, totalSteps: 1, canGoBack: false };
  const action = await comparisonSummaryStep(frame, start, services);
  if (action === "edit") await vscode.window.showTextDocument(document);
  if (action === "start" || action === "force") await compareInBackground(start, services, action === "force");
}

/**
 * The same folder every time, so that a comparison asked for again goes on where it stopped. Panels look into the
 * workspace's folder of runs, so that is where it lies unless the file says otherwise; a file of the same name from
 * another folder gets one of its own.
 */
function startOf(file: string, recipe: ComparisonRecipe, runsFolder: string): ComparisonStart {
  const baseFolder = path.dirname(file);
  const name = comparisonNameOf(path.basename(file));
  const common = { recipe, baseFolder, name: recipe.name ?? name };
  if (recipe.output !== undefined) return { ...common, directory: path.resolve(baseFolder, recipe.output) };
  let directory = path.join(runsFolder, name);
  for (let n = 2; belongsElsewhere(directory, baseFolder); n++) directory = path.join(runsFolder, `${name}-${n}`);
  return { ...common, directory };
}

function belongsElsewhere(directory: string, baseFolder: string): boolean {
  if (!existsSync(directory)) return false;
  try {
    const text = readFileSync(path.join(directory, comparisonFiles.comparison), "utf8");
    return (JSON.parse(text) as { baseFolder?: unknown }).baseFolder !== baseFolder;
  } catch {
    return true; // a run, or nothing that can be continued
  }
}

/** The comparison file in the editor, or one of the workspace; undefined: a new comparison; null: nothing. */
async function pickFile(): Promise<vscode.Uri | null | undefined> {
  const active = vscode.window.activeTextEditor?.document.uri;
  if (active && isComparisonFile(active.path)) return active;
  const exclude = "**/{node_modules,.reroute}/**";
  const found = await vscode.workspace.findFiles("**/*.compare.reroute.json", exclude, 200);
  if (found.length === 0) return undefined;
  const items = [
    {
      label: vscode.l10n.t("New comparison..."),
      description: vscode.l10n.t("choose checkpoint, methods and ratios"),
      iconPath: new vscode.ThemeIcon("add"),
      uri: undefined,
    },
    ...found.map((uri) => ({
      label: path.basename(uri.fsPath),
      description: vscode.workspace.asRelativePath(uri),
      iconPath: new vscode.ThemeIcon("json"),
      uri,
    })),
  ];
  const picked = await vscode.window.showQuickPick(items, { placeHolder: vscode.l10n.t("Which comparison?") });
  return picked ? picked.uri : null;
}
