import { readFile } from "node:fs/promises";
import * as vscode from "vscode";
import type { CompressionMethod } from "../../protocol/methods";
import type { Services } from "../services";
import { chosenTwice, methodOptions, type OptionValue } from "./methodOptions";
import { pickManyStep, type StepFrame, type StepItem, type StepResult } from "./pickStep";
import type { Answers } from "./questions";

const t = vscode.l10n.t;

/** Asks for a method's options by their names; what is not ticked stays as it is by default. */
export async function askMethodOptions(
  frame: StepFrame,
  method: CompressionMethod,
  known: Answers["options"],
  { context }: Pick<Services, "context">,
): Promise<StepResult<NonNullable<Answers["options"]>>> {
  const all = methodOptions(await recipeSchema(context), method);
  const items = all.flatMap(({ name, description, standard, others }): StepItem<readonly [string, OptionValue]>[] => [
    { label: t("{0}: {1} by default", name, String(standard)), kind: vscode.QuickPickItemKind.Separator },
    ...others.map(({ value, about }) => ({
      label: `${name}=${value}`,
      detail: about === "" ? description : about,
      value: [name, value] as const,
    })),
  ]);
  const chosen = known?.method === method ? known.chosen : {};
  const answer = await pickManyStep(
    { ...frame, placeholder: t("Options of {0}; what is not ticked stays as it is by default", method) },
    items,
    ([name, value]) => chosen[name] === value,
    (ticked) => {
      const name = chosenTwice(ticked);
      return name === null ? null : t("Tick one value of {0}", name);
    },
  );
  return typeof answer === "symbol" ? answer : { method, chosen: Object.fromEntries(answer) };
}

let schema: Promise<unknown> | null = null;

/** As the package has it: it never changes, so it is read once. */
function recipeSchema({ extensionUri }: vscode.ExtensionContext): Promise<unknown> {
  const file = vscode.Uri.joinPath(extensionUri, "media", "schemas", "recipe.schema.json").fsPath;
  return (schema ??= readFile(file, "utf8").then((text) => JSON.parse(text) as unknown));
}
