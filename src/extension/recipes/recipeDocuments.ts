import { statSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import type { Services } from "../services";
import { hubModelIdOf, recipePathProblems } from "./recipePaths";
import { isComparisonFile, parseComparison, parseRecipe } from "./recipeProblems";

const selector: vscode.DocumentSelector = { pattern: "**/*.reroute.json" };

/** Lens and diagnostics of `*.reroute.json` files, comparisons among them. Completion and hover come from the schema in package.json. */
export function registerRecipeDocuments({ checkpoints }: Pick<Services, "checkpoints">): vscode.Disposable {
  const diagnostics = vscode.languages.createDiagnosticCollection("reroute");
  const check = (document: vscode.TextDocument) => {
    if (vscode.languages.match(selector, document) === 0) return;
    diagnostics.set(document.uri, problemsOf(document, []));
    if (!maybeNamesModel(document)) return;
    const { version } = document;
    void checkpoints.hubModelIds().then((known) => {
      const isSame = !document.isClosed && document.version === version;
      if (isSame) diagnostics.set(document.uri, problemsOf(document, known));
    });
  };
  for (const document of vscode.workspace.textDocuments) check(document);
  return vscode.Disposable.from(
    diagnostics,
    vscode.workspace.onDidOpenTextDocument(check),
    vscode.workspace.onDidChangeTextDocument(({ document }) => check(document)),
    vscode.workspace.onDidCloseTextDocument(({ uri }) => diagnostics.delete(uri)),
    vscode.languages.registerCodeLensProvider(selector, { provideCodeLenses }),
  );
}

/** Whether a checkpoint may be one of the Hugging Face cache: the engine is asked for its models only then. */
function maybeNamesModel(document: vscode.TextDocument): boolean {
  const recipe = pathsOf(document);
  const written = recipe ? [recipe.teacher, recipe.student, recipe.data.tokenizer] : [];
  const folder = path.dirname(document.uri.fsPath);
  return written.some((file) => file && hubModelIdOf(file) !== null && look(path.resolve(folder, file)) === null);
}

/** The schema marks what does not follow it; this adds what only the file system knows. */
function problemsOf(document: vscode.TextDocument, hubModels: readonly string[]): vscode.Diagnostic[] {
  const text = document.getText();
  const recipe = pathsOf(document);
  if (!recipe || document.uri.scheme !== "file") return [];
  const problems = recipePathProblems(text, recipe, path.dirname(document.uri.fsPath), look, vscode.l10n.t, hubModels);
  return problems.map(({ message, start, end }) => {
    const range = new vscode.Range(document.positionAt(start), document.positionAt(end));
    const diagnostic = new vscode.Diagnostic(range, message, vscode.DiagnosticSeverity.Error);
    diagnostic.source = "reroute";
    diagnostic.code = "recipe/invalid";
    return diagnostic;
  });
}

/** What a recipe or a comparison names; null while it does not follow its schema. */
function pathsOf(document: vscode.TextDocument): Parameters<typeof recipePathProblems>[1] | null {
  const text = document.getText();
  if (!isComparisonFile(document.fileName)) return parseRecipe(text).recipe;
  const comparison = parseComparison(text).recipe;
  return comparison && { teacher: comparison.teacher, data: comparison.data };
}

function look(file: string): "file" | "folder" | null {
  const found = statSync(file, { throwIfNoEntry: false });
  if (!found) return null;
  return found.isDirectory() ? "folder" : "file";
}

function provideCodeLenses(document: vscode.TextDocument): vscode.CodeLens[] {
  if (!vscode.workspace.isTrusted || pathsOf(document) === null) return [];
  const top = new vscode.Range(0, 0, 0, 0);
  if (isComparisonFile(document.fileName)) {
    const title = `$(graph-scatter) ${vscode.l10n.t("Compare...")}`;
    return [new vscode.CodeLens(top, { title, command: "reroute.compareMethods", arguments: [document.uri] })];
  }
  return [
    new vscode.CodeLens(top, {
      title: `$(play) ${vscode.l10n.t("Run")}`,
      command: "reroute.runRecipe",
      arguments: [document.uri],
    }),
    new vscode.CodeLens(top, {
      title: `$(checklist) ${vscode.l10n.t("Check before running")}`,
      command: "reroute.checkRecipe",
      arguments: [document.uri],
    }),
  ];
}
