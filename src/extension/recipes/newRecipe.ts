import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import type { ComparisonRecipe } from "../../protocol/compare";
import type { Recipe } from "../../protocol/recipe";

/**
 * Opens a recipe as a new file that already has its name and place: completion, lenses and problems are there at once, paths are
 * relative to where it will lie, and saving asks nothing. Nothing is written by itself.
 */
export async function openNewRecipe(
  folder: string,
  name: string,
  recipe: Recipe | ComparisonRecipe | vscode.SnippetString,
  ending: ".reroute.json" | ".compare.reroute.json" = ".reroute.json",
): Promise<vscode.TextEditor> {
  const isTaken = (file: string) =>
    existsSync(file) || vscode.workspace.textDocuments.some(({ uri }) => uri.fsPath === file);
  let file = path.join(folder, `${name || "recipe"}${ending}`);
  for (let n = 2; isTaken(file); n++) file = path.join(folder, `${name || "recipe"}-${n}${ending}`);
  const document = await vscode.workspace.openTextDocument(vscode.Uri.file(file).with({ scheme: "untitled" }));
  const editor = await vscode.window.showTextDocument(document);
  const start = new vscode.Position(0, 0);
  if (recipe instanceof vscode.SnippetString) await editor.insertSnippet(recipe, start);
  else await editor.edit((edit) => edit.insert(start, `${JSON.stringify(recipe, null, 2)}\n`));
  return editor;
}
