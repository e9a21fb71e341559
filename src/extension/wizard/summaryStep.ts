import * as vscode from "vscode";
import type { ComparisonStart } from "../../protocol/engine";
import { errorCodeOf, isCancelled } from "../../protocol/errors";
import type { Recipe } from "../../protocol/recipe";
import type { Services } from "../services";
import { comparisonLines } from "./comparisonLines";
import { pickStep, type StepFrame, type StepItem, type StepResult } from "./pickStep";
import { preflightLines, startOf, wrapped, type PreflightLine } from "./preflightLines";

/** What the last step ends in; "force" starts although the text was trained on. */
export type SummaryChoice = "start" | "force" | "edit";

const icons = { fact: "info", warning: "warning", refusal: "error" } as const;

/** The last step: what the run will take, from the engine's pre-flight. Nothing has been started or written yet. */
export function summaryStep(
  frame: StepFrame,
  recipe: Recipe,
  baseFolder: string,
  { engine, runList }: Services,
): Promise<StepResult<SummaryChoice>> {
  return askToStart(frame, async (signal) => {
    const request = { recipe, baseFolder, runsFolder: runList.folderFor(baseFolder) };
    return preflightLines(await engine.request("recipe/preflight", request, signal), recipe, vscode.l10n.t);
  });
}

/** The same of a comparison. `onForecast` gets what it is expected to take, seconds. */
export function comparisonSummaryStep(
  frame: StepFrame,
  start: ComparisonStart,
  { engine }: Services,
  onForecast: (seconds: number) => void,
): Promise<StepResult<SummaryChoice>> {
  return askToStart(frame, async (signal) => {
    const forecast = await engine.request("comparison/preflight", start, signal);
    onForecast(forecast.seconds);
    return comparisonLines(forecast, start.recipe, start.directory, vscode.l10n.t);
  });
}

/** Shows what `estimate` finds; Start is among the items unless one of them is a refusal. */
async function askToStart(
  frame: StepFrame,
  estimate: (signal: AbortSignal) => Promise<PreflightLine[]>,
): Promise<StepResult<SummaryChoice>> {
  const abort = new AbortController();
  const failed = (error: unknown): PreflightLine[] => {
    if (isCancelled(error)) return [];
    const message = error instanceof Error ? error.message : String(error);
    return [
      { kind: "refusal", label: vscode.l10n.t("Cannot start"), description: `${message} (${errorCodeOf(error)})` },
    ];
  };
  try {
    return await pickStep<SummaryChoice>(
      {
        ...frame,
        placeholder: vscode.l10n.t("Estimating size, time, memory and disk..."),
        placeholderWhenReady: vscode.l10n.t("Nothing has been started or written yet"),
      },
      estimate(abort.signal)
        .catch(failed)
        .then((lines) => summaryItems(lines, lines.length > 0 ? startOf(lines) : null)),
    );
  } finally {
    abort.abort(); // a pre-flight that nobody waits for any more
  }
}

/** Characters of a description that a row shows beside its label. */
const besideLabel = 60;

function summaryItems(lines: PreflightLine[], start: "start" | "force" | null): StepItem<SummaryChoice>[] {
  const starts: Record<"start" | "force", StepItem<SummaryChoice>> = {
    start: { label: `$(play) ${vscode.l10n.t("Start")}`, value: "start" },
    force: {
      label: `$(warning) ${vscode.l10n.t("Evaluate All the Same")}`,
      description: vscode.l10n.t("the verdict will say that this text was trained on"),
      value: "force",
    },
  };
  return [
    ...(start === null ? [] : [starts[start]]),
    {
      label: `$(edit) ${vscode.l10n.t("Edit as recipe...")}`,
      description: vscode.l10n.t("all options, with completion"),
      value: "edit",
    },
    { label: vscode.l10n.t("Before anything starts"), kind: vscode.QuickPickItemKind.Separator },
    ...lines.flatMap(({ kind, label, description }) =>
      wrapped(description).map((text, i, { length }) => ({
        label: i === 0 ? `$(${icons[kind]}) ${label}` : "",
        // A short one fits beside its label, so that more of them are seen at once.
        ...(length === 1 && text.length <= besideLabel ? { description: text } : { detail: text }),
        alwaysShow: true,
      })),
    ),
  ];
}
