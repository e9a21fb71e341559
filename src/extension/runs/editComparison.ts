import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { comparisonFiles, comparisonFile, type ComparisonRecipe } from "../../protocol/compare";
import { openNewRecipe } from "../recipes/newRecipe";
import { safeName } from "./runName";

interface Written {
  name: string;
  recipe: ComparisonRecipe;
  baseFolder: string;
}

/** A comparison's recipe in an editor: the file that it was started from, or else a new one there, so that its paths mean the same. */
export async function editComparison({ name, recipe, baseFolder }: Written): Promise<void> {
  const file = path.join(baseFolder, `${name}.compare.reroute.json`);
  if (existsSync(file)) await vscode.window.showTextDocument(vscode.Uri.file(file));
  else await openNewRecipe(baseFolder, safeName(name), recipe, ".compare.reroute.json");
}

/** What a comparison's folder says of itself. */
export function readWritten(directory: string): Written {
  return comparisonFile.parse(JSON.parse(readFileSync(path.join(directory, comparisonFiles.comparison), "utf8")));
}
