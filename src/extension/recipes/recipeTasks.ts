import path from "node:path";
import * as vscode from "vscode";
import { commandLineEnvironment } from "../support/commandLineProgram";
import { isComparisonFile } from "./recipeProblems";

/** The type that tasks.json names; package.json says what it may hold. */
export const taskType = "reroute";

interface RecipeTask extends vscode.TaskDefinition {
  recipe: string;
  options?: string[];
}

/** Tasks that run the workspace's recipes in a terminal, with the command line that the extension ships. */
export function registerRecipeTasks(context: vscode.ExtensionContext): vscode.Disposable {
  const program = context.asAbsolutePath(path.join("dist", "cli.js"));
  return vscode.tasks.registerTaskProvider(taskType, {
    provideTasks: async () => {
      if (!vscode.workspace.isTrusted) return [];
      const found = await vscode.workspace.findFiles("**/*.reroute.json", "**/{node_modules,.reroute}/**", 200);
      return found.flatMap((uri) => {
        const folder = vscode.workspace.getWorkspaceFolder(uri);
        if (!folder) return [];
        const recipe = path.relative(folder.uri.fsPath, uri.fsPath).split(path.sep).join("/");
        return [taskOf({ type: taskType, recipe }, folder, program)];
      });
    },
    resolveTask: (task) => {
      const definition = task.definition as Partial<RecipeTask>;
      const scope = task.scope ?? vscode.workspace.workspaceFolders?.[0];
      if (typeof definition.recipe !== "string" || typeof scope !== "object") return undefined;
      // VS Code asks that what comes back has the very definition that it asked about.
      return taskOf(task.definition as RecipeTask, scope, program);
    },
  });
}

function taskOf(definition: RecipeTask, folder: vscode.WorkspaceFolder, program: string): vscode.Task {
  const isGrid = isComparisonFile(definition.recipe);
  const execution = new vscode.ProcessExecution(
    process.execPath,
    [program, isGrid ? "compare" : "run", definition.recipe, ...(definition.options ?? [])],
    { cwd: folder.uri.fsPath, env: commandLineEnvironment },
  );
  const name = isGrid
    ? vscode.l10n.t("compare {0}", definition.recipe)
    : vscode.l10n.t("run recipe {0}", definition.recipe);
  const task = new vscode.Task(definition, folder, name, taskType, execution, []);
  task.presentationOptions = { reveal: vscode.TaskRevealKind.Always, panel: vscode.TaskPanelKind.Dedicated };
  return task;
}
