import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { namedStudent } from "../../protocol/denseStudent";
import { runFace } from "../runs/runFace";
import type { Services } from "../services";
import { hoverAt, keepHints, lastRunOf, lastVerdict, pathChoices, type FolderEntry } from "./recipeHelp";
import { hubModelIdOf, recipePathProblems } from "./recipePaths";
import { isComparisonFile, parseComparison, parseRecipe } from "./recipeProblems";

const selector: vscode.DocumentSelector = { pattern: "**/*.reroute.json" };

/** What `*.reroute.json` files, comparisons among them, get in the editor beyond their schema: problems, lenses, help. */
export function registerRecipeDocuments(services: Services): vscode.Disposable {
  const diagnostics = vscode.languages.createDiagnosticCollection("reroute");
  const check = (document: vscode.TextDocument) => {
    if (vscode.languages.match(selector, document) === 0) return;
    diagnostics.set(document.uri, problemsOf(document, []));
    if (!maybeNamesModel(document)) return;
    const { version } = document;
    void services.checkpoints.hubModelIds().then((known) => {
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
    vscode.languages.registerCodeLensProvider(selector, {
      onDidChangeCodeLenses: services.runList.onDidChange,
      provideCodeLenses: (document) => provideCodeLenses(document, services),
    }),
    registerHelp(services),
  );
}

/** Whether a checkpoint may be one of the Hugging Face cache: the engine is asked for its models only then. */
function maybeNamesModel(document: vscode.TextDocument): boolean {
  const recipe = pathsOf(document);
  const written = recipe ? [recipe.teacher, namedStudent(recipe), recipe.data.tokenizer] : [];
  const folder = path.dirname(document.uri.fsPath);
  return written.some((file) => file && hubModelIdOf(file) !== null && look(path.resolve(folder, file)) === null);
}

/** The schema marks what does not follow it; this adds what only the file system knows. */
function problemsOf(document: vscode.TextDocument, hubModels: readonly string[]): vscode.Diagnostic[] {
  const text = document.getText();
  const recipe = pathsOf(document);
  if (!recipe || !["file", "untitled"].includes(document.uri.scheme)) return [];
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

/** Hover, path completion and inlay hints; the schema in package.json explains keys and completes their values. */
function registerHelp({ checkpoints }: Services): vscode.Disposable {
  const t = vscode.l10n.t;
  const rangeIn = (document: vscode.TextDocument, { start, end }: { start: number; end: number }) =>
    new vscode.Range(document.positionAt(start), document.positionAt(end));
  return vscode.Disposable.from(
    vscode.languages.registerHoverProvider(selector, {
      provideHover: (document, position) => {
        const help = hoverAt(document.getText(), document.offsetAt(position), t);
        return help && new vscode.Hover(new vscode.MarkdownString(help.text), rangeIn(document, help));
      },
    }),
    vscode.languages.registerCompletionItemProvider(
      selector,
      {
        provideCompletionItems: (document, position) => {
          const folder = path.dirname(document.uri.fsPath);
          const choices = pathChoices(document.getText(), document.offsetAt(position), folder, entriesOf);
          return choices?.map((choice) => {
            const { File, Folder } = vscode.CompletionItemKind;
            const item = new vscode.CompletionItem(choice.label, choice.isFolder ? Folder : File);
            item.range = rangeIn(document, choice);
            // A folder is rarely the end of a path.
            if (choice.isFolder) item.command = { command: "editor.action.triggerSuggest", title: "" };
            return item;
          });
        },
      },
      "/",
      '"',
    ),
    vscode.languages.registerInlayHintsProvider(selector, {
      provideInlayHints: async (document) => {
        const teacher = pathsOf(document)?.teacher;
        if (teacher === undefined) return [];
        const folder = path.resolve(path.dirname(document.uri.fsPath), teacher);
        // Who writes the path is told of a missing folder elsewhere.
        const checkpoint = look(folder) === null ? null : await checkpoints.inspect(folder).catch(() => null);
        return (checkpoint ? keepHints(document.getText(), checkpoint, t) : []).map(({ end, text }) => {
          const hint = new vscode.InlayHint(document.positionAt(end), text);
          hint.paddingLeft = true;
          return hint;
        });
      },
    }),
  );
}

function entriesOf(folder: string): FolderEntry[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .slice(0, 1000)
      .map((entry) => ({
        name: entry.name,
        isFolder: entry.isDirectory() || (entry.isSymbolicLink() && look(path.join(folder, entry.name)) === "folder"),
      }));
  } catch {
    return [];
  }
}

/** Run, check, and how it went the last time. Asking for runs starts no engine where there are none. */
async function provideCodeLenses(document: vscode.TextDocument, { runList }: Services): Promise<vscode.CodeLens[]> {
  const paths = pathsOf(document);
  if (!vscode.workspace.isTrusted || paths === null) return [];
  const top = new vscode.Range(0, 0, 0, 0);
  const lens = (title: string, command: string, ...given: unknown[]) =>
    new vscode.CodeLens(top, { title, command: `reroute.${command}`, arguments: given });
  if (isComparisonFile(document.fileName))
    return [lens(`$(graph-scatter) ${vscode.l10n.t("Compare...")}`, "compareMethods", document.uri)];
  const lenses = [
    lens(`$(play) ${vscode.l10n.t("Run")}`, "runRecipe", document.uri),
    lens(`$(checklist) ${vscode.l10n.t("Check before running")}`, "checkRecipe", document.uri),
  ];
  const { recipe } = parseRecipe(document.getText());
  const runs = recipe && runList.hasRuns() ? await runList.get().catch(() => []) : [];
  const last = recipe && lastRunOf(recipe, path.dirname(document.uri.fsPath), runs);
  if (!last) return lenses;
  const { icon } = runFace(last);
  return [
    ...lenses,
    lens(`$(${icon}) ${lastVerdict(last, vscode.l10n.t)}`, "openRun", { runDirectory: last.directory }),
  ];
}
