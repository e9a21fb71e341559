import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { textExtensions } from "../../protocol/textFormats";
import { pickStep, type StepFrame, type StepItem, type StepResult } from "./pickStep";
import { other } from "./question";

const t = vscode.l10n.t;

/** A text of the workspace, or one that is browsed for; those in `first` come first, those in `without` never. */
export async function askForText(
  frame: StepFrame & { placeholder: string },
  first: (string | null | undefined)[],
  without: string[],
  more: StepItem<string>[] = [],
): Promise<StepResult<string>> {
  const wanted = first.find((file) => typeof file === "string");
  const items = findTexts(first).then((texts) => [
    ...texts.filter((file) => !without.includes(file)).map((file) => fileItem<string | typeof other>(file, file)),
    ...more,
    browseItem(),
  ]);
  const text = await pickStep({ ...frame, isActive: ({ value }) => value === wanted }, items);
  if (text !== other) return text;
  const [file] = (await vscode.window.showOpenDialog({ filters: { [t("Text")]: [...textExtensions] } })) ?? [];
  return file ? file.fsPath : askForText(frame, first, without, more);
}

export function browseItem(): StepItem<string | typeof other> {
  return { label: t("Browse..."), iconPath: new vscode.ThemeIcon("folder-opened"), value: other };
}

export function fileItem<T>(file: string, value: T): StepItem<T> {
  return { label: path.basename(file), description: vscode.workspace.asRelativePath(path.dirname(file)), value };
}

/** Workspaces are full of JSON that is no text: it is browsed for. */
const isMostlyText = (extension: string): boolean => extension !== "json";

/** Texts of the workspace, those that were used or configured first. */
async function findTexts(first: (string | null | undefined)[]): Promise<string[]> {
  const known = first.filter((file): file is string => typeof file === "string" && existsSync(file));
  const found = await vscode.workspace.findFiles(
    `**/*.{${textExtensions.filter(isMostlyText).join()}}`,
    "**/{node_modules,.git,.reroute}/**",
    200,
  );
  const paths = found.filter(({ scheme }) => scheme === "file").map(({ fsPath }) => fsPath);
  // Held-out text is for the comparison, not for calibration: offered, but last.
  const heldOut = (file: string) => Number(/eval|held|test|valid/i.test(path.basename(file)));
  return [...new Set([...known, ...paths.sort((a, b) => heldOut(a) - heldOut(b) || a.localeCompare(b))])];
}
