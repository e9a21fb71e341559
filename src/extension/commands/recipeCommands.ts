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
import { preflightLines, startOf } from "../wizard/preflightLines";

interface OpenedRecipe {
  recipe: Recipe;
  baseFolder: string;
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

/** The pre-flight of a recipe: what it would take, and what would be refused. */
export async function checkRecipe(argument: unknown, services: Services): Promise<void> {
  const opened = await openRecipe(argument);
  if (!opened) return;
  const preflight = await vscode.window.withProgress(
    {
      location: vscode.ProgressLocation.Notification,
      title: vscode.l10n.t("Estimating size, time, memory and disk..."),
      cancellable: true,
    },
    (_, token) => {
      const abort = new AbortController();
      token.onCancellationRequested(() => abort.abort());
      return services.engine.request(
        "recipe/preflight",
        { ...opened, runsFolder: services.runList.folderFor(opened.baseFolder) },
        abort.signal,
      );
    },
  );
  const lines = preflightLines(preflight, opened.recipe, vscode.l10n.t);
  const detail = lines.map(({ label, description }) => `${label}: ${description}`).join("\n");
  const how = startOf(lines);
  const start = how === "force" ? vscode.l10n.t("Evaluate All the Same") : vscode.l10n.t("Run");
  const message = how === "start" ? vscode.l10n.t("This recipe can run") : vscode.l10n.t("This recipe cannot run");
  const choice = await vscode.window.showInformationMessage(
    message,
    { modal: true, detail },
    ...(how === null ? [] : [start]),
  );
  if (choice === start) await startInBackground(opened.recipe, opened.baseFolder, services, how === "force");
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
  if (recipe) return { recipe, baseFolder: path.dirname(uri.fsPath) };
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
