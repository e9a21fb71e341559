/** What people do with the runs they have: name, tag, delete, run again, take along. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import type { ComparisonSummary } from "../../protocol/compare";
import type { RunSummary } from "../../protocol/panels";
import { tagsOf } from "../../protocol/labels";
import { formatBytes } from "../../protocol/quantities";
import type { Recipe } from "../../protocol/recipe";
import { withAbsolutePaths } from "../../protocol/recipePaths";
import { openNewRecipe } from "../recipes/newRecipe";
import { renameReport } from "../reports/reportPage";
import { startInBackground } from "../runs/runInBackground";
import { outputFolder, outputParent, safeName } from "../runs/runName";
import { commandLine, sameElsewhere } from "../runs/runAgain";
import type { Services } from "../services";
import { workspaceFolder } from "../settings";
import { directoryOf, pickRun } from "./pickRun";

/** Calls a run or comparison something else; nothing takes its own name back. */
export async function renameRun(argument: unknown, services: Services): Promise<void> {
  const target = await named(argument, services);
  if (!target) return;
  const name = await vscode.window.showInputBox({
    prompt: vscode.l10n.t("What should it be called? Nothing: as its recipe calls it"),
    value: target.name,
    validateInput: (text) => (text.length > 200 ? vscode.l10n.t("At most 200 characters") : null),
  });
  if (name === undefined || name === target.name) return;
  const { directory } = target;
  await services.engine.request("run/label", { directory, name: name.trim() || null });
  services.runList.refresh();
  services.pages.runChanged(directory);
  const { runs, comparisons } = await services.runList.fresh();
  const renamed = [...runs, ...comparisons].find((one) => one.directory === directory);
  if (renamed) renameReport(directory, renamed.name);
}

/** Replaces a run's tags. Those in use are shown, so that the same thing is not called two names. */
export async function tagRun(argument: unknown, services: Services): Promise<void> {
  const target = await named(argument, services);
  if (!target) return;
  const used = [...new Set((await services.runList.all()).runs.flatMap(({ tags }) => tags))].sort();
  const tags = await vscode.window.showInputBox({
    prompt: [
      vscode.l10n.t("Tags, with commas between them"),
      ...(used.length > 0 ? [vscode.l10n.t("in use: {0}", used.slice(0, 12).join(", "))] : []),
    ].join("; "),
    value: target.tags.join(", "),
    validateInput: (text) =>
      tagsOf(text).some((tag) => tag.length > 40) ? vscode.l10n.t("At most 40 characters") : null,
  });
  if (tags === undefined) return;
  const { directory } = target;
  await services.engine.request("run/label", { directory, tags: tagsOf(tags) });
  services.runList.refresh();
}

/** Moves run folders, and the checkpoints they wrote if that is wanted, to the trash; sizes are said first. */
export async function deleteRun(argument: unknown, selected: unknown, services: Services): Promise<void> {
  const chosen = Array.isArray(selected) && selected.length > 1 ? selected : [argument];
  const targets = (await Promise.all(chosen.map((one) => named(one, services)))).filter((one) => one !== null);
  if (targets.length === 0) return;
  const busy = targets.find(({ state }) => state === "running");
  if (busy) {
    void vscode.window.showErrorMessage(
      vscode.l10n.t("{0} is being worked on: cancel it first (run/locked)", busy.name),
    );
    return;
  }
  const sizes = await Promise.all(targets.map(({ directory }) => services.engine.request("run/size", { directory })));
  const bytes = sizes.reduce((sum, size) => sum + size.bytes, 0);
  const outputs = sizes.flatMap(({ output }) => (output ? [output] : []));
  const outputBytes = outputs.reduce((sum, output) => sum + output.bytes, 0);
  const runOnly = vscode.l10n.t("Move to Trash");
  const both = vscode.l10n.t("Move to Trash with Checkpoints ({0})", formatBytes(bytes + outputBytes));
  const choice = await vscode.window.showWarningMessage(
    targets.length === 1
      ? vscode.l10n.t("Delete the run {0} ({1})?", targets[0]!.name, formatBytes(bytes))
      : vscode.l10n.t("Delete {0} runs ({1})?", targets.length, formatBytes(bytes)),
    {
      modal: true,
      detail: [
        ...targets.map(({ directory }) => directory),
        ...(outputs.length > 0
          ? ["", vscode.l10n.t("Checkpoints that they wrote, kept unless you say otherwise:")]
          : []),
        ...outputs.map((output) => `${output.path} (${formatBytes(output.bytes)})`),
      ].join("\n"),
    },
    runOnly,
    ...(outputs.length > 0 ? [both] : []),
  );
  if (choice === undefined) return;
  const folders = targets.map(({ directory }) => directory);
  await moveToTrash(choice === both ? [...folders, ...outputs.map((output) => output.path)] : folders);
  services.runList.refresh();
  services.checkpoints.refresh();
}

async function moveToTrash(folders: string[]): Promise<void> {
  const refused: string[] = [];
  for (const folder of folders) {
    const trash = vscode.workspace.fs.delete(vscode.Uri.file(folder), { recursive: true, useTrash: true });
    await trash.then(undefined, () => refused.push(folder));
  }
  if (refused.length === 0) return;
  const forGood = vscode.l10n.t("Delete Permanently");
  const choice = await vscode.window.showWarningMessage(
    vscode.l10n.t("This machine has no trash for these folders. Delete them for good?"),
    { modal: true, detail: refused.join("\n") },
    forGood,
  );
  if (choice !== forGood) return;
  for (const folder of refused) await vscode.workspace.fs.delete(vscode.Uri.file(folder), { recursive: true });
}

/** Opens a run's recipe as a new file, with absolute paths and an output that is not taken. */
export async function duplicateRun(argument: unknown, services: Services): Promise<void> {
  const again = await recipeAgain(argument, services);
  if (!again) return;
  const folder = workspaceFolder(again.baseFolder) ?? again.baseFolder;
  await openNewRecipe(folder, safeName(again.recipe.name ?? "recipe"), again.recipe);
}

/** Runs the same recipe anew, in a folder of its own; the first run stays as it is. */
export async function runAgain(argument: unknown, services: Services): Promise<void> {
  const again = await recipeAgain(argument, services);
  if (again) await startInBackground(again.recipe, again.baseFolder, services);
}

/** The command that continues a run, or does a finished one anew, in a terminal of this machine. */
export async function copyCommandLine(argument: unknown, services: Services): Promise<void> {
  const run = await pickRun(argument, services);
  if (!run) return;
  const again = run.state === "done" ? await recipeAgain({ summary: run }, services) : null;
  const program = services.context.asAbsolutePath(path.join("dist", "cli.js"));
  const text = commandLine(program, run.directory, again ? again.recipe.output : null, existsSync, process.platform);
  await vscode.env.clipboard.writeText(text);
  vscode.window.setStatusBarMessage(vscode.l10n.t("Copied the command line of {0}", run.name), 5000);
}

/** A run's recipe as it would run beside the first one. */
export async function recipeAgain(
  argument: unknown,
  services: Services,
): Promise<{ recipe: Recipe; baseFolder: string } | null> {
  const run = await pickRun(argument, services);
  if (!run) return null;
  const { run: file } = await services.engine.request("run/read", { runDirectory: run.directory });
  const recipe = withAbsolutePaths(file.recipe, file.baseFolder);
  const parent = path.isAbsolute(recipe.teacher)
    ? outputParent(recipe.teacher, workspaceFolder(recipe.teacher), homedir())
    : (workspaceFolder(file.baseFolder) ?? path.join(homedir(), "reroute"));
  const into = intoOf(argument);
  const newOutput = outputFolder(recipe.teacher, into ?? parent, recipe.compress?.method ?? "again", existsSync);
  const output = into === null ? sameElsewhere(recipe.output, run.directory, newOutput, existsSync) : newOutput;
  return {
    recipe: { ...recipe, name: run.name, output },
    baseFolder: file.baseFolder,
  };
}

/** The folder that a failed run's result is to go into instead. */
function intoOf(argument: unknown): string | null {
  const isNamed = typeof argument === "object" && argument !== null && "into" in argument;
  return isNamed && typeof argument.into === "string" ? argument.into : null;
}

interface Named {
  directory: string;
  name: string;
  tags: string[];
  state: RunSummary["state"] | ComparisonSummary["state"];
}

/** The run or comparison that is named, or a run that the user picks. */
async function named(argument: unknown, services: Services): Promise<Named | null> {
  const directory = directoryOf(argument);
  const { comparisons } = await services.runList.fresh();
  return comparisons.find((one) => one.directory === directory) ?? pickRun(argument, services);
}
