import { statSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import type { Recipe } from "../../protocol/recipe";
import { isComparisonFile, parseRecipe } from "../recipes/recipeProblems";
import { openNewRecipe } from "../recipes/newRecipe";
import { recipeTemplates } from "../recipes/recipeTemplates";
import { startInBackground } from "../runs/runInBackground";
import type { Services } from "../services";
import { workspaceFolder } from "../settings";
import { summaryStep } from "../wizard/summaryStep";

interface OpenedRecipe {
  recipe: Recipe;
  baseFolder: string;
  uri: vscode.Uri;
}

/** Runs a `*.reroute.json` file as it is in the editor. A comparison shows its pre-flight first. */
export async function runRecipe(argument: unknown, services: Services): Promise<void> {
  const file = argument instanceof vscode.Uri ? argument : vscode.window.activeTextEditor?.document.uri;
  if (file && isComparisonFile(file.path)) {
    await vscode.commands.executeCommand("reroute.compareMethods", file);
    return;
  }
  const opened = await openRecipe(argument);
  if (opened) await startInBackground(opened.recipe, opened.baseFolder, services);
}

/** The pre-flight of a recipe as a page, which may start it: what it would take, and what would be refused. */
export async function checkRecipe(argument: unknown, services: Services): Promise<void> {
  const opened = await openRecipe(argument);
  if (!opened) return;
  const { recipe, baseFolder, uri } = opened;
  const title = vscode.l10n.t("Check {0}", path.basename(uri.path));
  const choice = await summaryStep({ title, step: 1, totalSteps: 1, canGoBack: false }, recipe, baseFolder, services);
  if (choice === "edit") await vscode.window.showTextDocument(uri);
  if (choice === "start" || choice === "force")
    await startInBackground(recipe, baseFolder, services, choice === "force");
}

/** Begins a recipe from a template, in the folder that was named or the workspace's first; the tab key leads through it. */
export async function newRecipe(argument: unknown): Promise<void> {
  const folder = argument instanceof vscode.Uri ? folderOf(argument.fsPath) : workspaceFolder();
  if (folder === null) {
    void vscode.window.showErrorMessage(
      vscode.l10n.t("Open a folder first: a recipe's paths are relative to where it lies"),
    );
    return;
  }
  const template = await vscode.window.showQuickPick(recipeTemplates(vscode.l10n.t), {
    placeHolder: vscode.l10n.t("What should the recipe do?"),
  });
  if (!template) return;
  await openNewRecipe(folder, template.name, new vscode.SnippetString(template.snippet), template.ending);
}

function folderOf(file: string): string {
  return statSync(file, { throwIfNoEntry: false })?.isDirectory() ? file : path.dirname(file);
}

async function openRecipe(argument: unknown): Promise<OpenedRecipe | null> {
  const uri = argument instanceof vscode.Uri ? argument : await pickRecipe();
  if (!uri) return null;
  const document = await vscode.workspace.openTextDocument(uri);
  const { recipe, problems } = parseRecipe(document.getText());
  if (recipe) return { recipe, baseFolder: path.dirname(uri.fsPath), uri };
  await vscode.window.showTextDocument(document);
  void vscode.window.showErrorMessage(vscode.l10n.t("The recipe cannot be used: {0}", problems[0]?.message ?? ""));
  return null;
}

async function pickRecipe(): Promise<vscode.Uri | null> {
  const active = vscode.window.activeTextEditor?.document.uri;
  if (active?.path.endsWith(".reroute.json")) return active;
  const found = await vscode.workspace.findFiles("**/*.reroute.json", "**/{node_modules,.reroute}/**", 200);
  const items = found
    .filter(({ path: file }) => !isComparisonFile(file))
    .map((uri) => ({
      label: path.basename(uri.fsPath),
      description: vscode.workspace.asRelativePath(uri),
      uri,
    }));
  if (items.length === 0) {
    void vscode.window.showInformationMessage(vscode.l10n.t("This workspace has no file that ends in .reroute.json"));
    return null;
  }
  return (await vscode.window.showQuickPick(items, { placeHolder: vscode.l10n.t("Which recipe?") }))?.uri ?? null;
}
