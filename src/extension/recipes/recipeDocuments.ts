import * as vscode from "vscode";
import { parseRecipe } from "./recipeProblems";

const selector: vscode.DocumentSelector = { pattern: "**/*.reroute.json" };

/** Lens and diagnostics of `*.reroute.json` files. Completion and hover come from the schema in package.json. */
export function registerRecipeDocuments(): vscode.Disposable {
  const diagnostics = vscode.languages.createDiagnosticCollection("reroute");
  const check = (document: vscode.TextDocument) => {
    if (vscode.languages.match(selector, document) > 0) diagnostics.set(document.uri, problemsOf(document));
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

function problemsOf(document: vscode.TextDocument): vscode.Diagnostic[] {
  return parseRecipe(document.getText()).problems.map(({ message, start, end }) => {
    const range = new vscode.Range(document.positionAt(start), document.positionAt(end));
    const diagnostic = new vscode.Diagnostic(range, message, vscode.DiagnosticSeverity.Error);
    diagnostic.source = "reroute";
    diagnostic.code = "recipe/invalid";
    return diagnostic;
  });
}

function provideCodeLenses(document: vscode.TextDocument): vscode.CodeLens[] {
  if (!vscode.workspace.isTrusted || parseRecipe(document.getText()).recipe === null) return [];
  const top = new vscode.Range(0, 0, 0, 0);
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
