import * as vscode from "vscode";
import { isCancelled } from "../../protocol/errors";
import type { Recipe } from "../../protocol/recipe";
import type { Services } from "../services";
import { pickStep, type StepFrame, type StepItem, type StepResult } from "./pickStep";
import { preflightLines } from "./preflightLines";

const icons = { fact: "info", warning: "warning", refusal: "error" } as const;

/** The last step: what the run will take, from the engine's pre-flight. Nothing has been started or written yet. */
export async function summaryStep(
  frame: StepFrame,
  recipe: Recipe,
  baseFolder: string,
  { engine, runList }: Services,
): Promise<StepResult<"start" | "edit">> {
  const abort = new AbortController();
  try {
    return await pickStep<"start" | "edit">(
      {
        ...frame,
        placeholder: vscode.l10n.t("Estimating size, time, memory and disk..."),
        placeholderWhenReady: vscode.l10n.t("Nothing has been started or written yet"),
      },
      engine.request("recipe/preflight", { recipe, baseFolder, runsFolder: runList.folder }, abort.signal).then(
        (preflight) => {
          const lines = preflightLines(preflight, recipe, vscode.l10n.t);
          return summaryItems(lines, !lines.some(({ kind }) => kind === "refusal"));
        },
        (error: unknown) =>
          isCancelled(error)
            ? []
            : summaryItems(
                [
                  {
                    kind: "refusal",
                    label: vscode.l10n.t("Cannot start"),
                    description: error instanceof Error ? error.message : String(error),
                  },
                ],
                false,
              ),
      ),
    );
  } finally {
    abort.abort(); // a pre-flight that nobody waits for any more
  }
}

function summaryItems(lines: ReturnType<typeof preflightLines>, canStart: boolean): StepItem<"start" | "edit">[] {
  const start: StepItem<"start" | "edit"> = { label: `$(play) ${vscode.l10n.t("Start")}`, value: "start" };
  return [
    ...(canStart ? [start] : []),
    {
      label: `$(edit) ${vscode.l10n.t("Edit as recipe...")}`,
      description: vscode.l10n.t("all options, with completion"),
      value: "edit",
    },
    { label: vscode.l10n.t("Before anything starts"), kind: vscode.QuickPickItemKind.Separator },
    ...lines.map(({ kind, label, description }) => ({
      label: `$(${icons[kind]}) ${label}`,
      detail: description,
      alwaysShow: true,
    })),
  ];
}
