import { randomBytes } from "node:crypto";
import * as vscode from "vscode";
import type { ComparisonStart } from "../../protocol/engine";
import { errorCodeOf, isCancelled } from "../../protocol/errors";
import type { Recipe } from "../../protocol/recipe";
import type { QueueChoice, QueueStatus } from "../../protocol/workers";
import type { Services } from "../services";
import { editorWords } from "../editorWords";
import { readSettings } from "../settings";
import { queueChoice } from "../workers/queueChoice";
import { layerLines, queueLines, spreadLines } from "../workers/queueLines";
import { comparisonLines } from "./comparisonLines";
import { back, closed, waitStep, type StepFrame, type StepResult } from "./pickStep";
import { preflightLines, stageSummary, startOf, type PreflightLine } from "./preflightLines";
import { summaryAnswers, summaryHtml, type Summary, type SummaryAnswer } from "./summaryHtml";

/** What the last step ends in; "force" starts although the text was trained on. */
export type SummaryChoice = "start" | "force" | "edit";

type Estimate = Pick<Summary, "lines" | "stages">;

/** The last step: what the run will take, from the engine's pre-flight. Nothing has been started or written yet. */
export function summaryStep(
  frame: StepFrame,
  recipe: Recipe,
  baseFolder: string,
  services: Services,
): Promise<StepResult<SummaryChoice>> {
  const { engine, runList } = services;
  return askToStart(frame, async (signal) => {
    const request = { recipe, baseFolder, runsFolder: runList.folderFor(baseFolder) };
    const spread = await askQueue(services, baseFolder, signal);
    const preflight = await engine.request("recipe/preflight", request, signal);
    return {
      lines: [
        ...preflightLines(preflight, recipe, vscode.l10n.t),
        ...(spread === null
          ? []
          : [
              ...queueLines(spread.status, spread.queue, vscode.l10n.t),
              ...spreadLines(preflight, vscode.l10n.t),
              ...layerLines(preflight, spread.status, spread.queue, vscode.l10n.t),
            ]),
        windowLine(),
      ],
      stages: stageSummary(preflight, vscode.l10n.t),
    };
  });
}

/** The same of a comparison. `onForecast` gets what it is expected to take, seconds. */
export function comparisonSummaryStep(
  frame: StepFrame,
  start: ComparisonStart,
  services: Services,
): Promise<StepResult<SummaryChoice>> {
  const { engine } = services;
  return askToStart(frame, async (signal) => {
    const spread = await askQueue(services, start.baseFolder, signal);
    const forecast = await engine.request("comparison/preflight", start, signal);
    const lines = comparisonLines(forecast, start.recipe, start.directory, vscode.l10n.t);
    const ofQueue = spread === null ? [] : queueLines(spread.status, spread.queue, vscode.l10n.t);
    return { lines: [...lines, ...ofQueue, windowLine()], stages: null };
  });
}

/** The queue that the work would be spread by, and the workers at it; null: none is set. */
async function askQueue(
  { context, engine }: Services,
  about: string,
  signal: AbortSignal,
): Promise<{ queue: QueueChoice; status: QueueStatus } | null> {
  const queue = await queueChoice(context, about);
  return queue && { queue, status: await engine.request("queue/status", { queue }, signal) };
}

/** What becomes of the work when its window goes. */
function windowLine(): PreflightLine {
  const words = {
    continue: vscode.l10n.t("The work goes on when this window is closed; the next window of the folder shows it"),
    ask: vscode.l10n.t(
      "The work stops at what it has saved when this window is closed; the next window offers to resume it",
    ),
    stop: vscode.l10n.t("The work stops at what it has saved when this window is closed"),
  };
  return { kind: "fact", label: vscode.l10n.t("Window"), description: words[readSettings().onWindowClose] };
}

/** Waits for the estimate in the wizard's own place, then shows it as a page whose buttons answer. */
async function askToStart(
  frame: StepFrame,
  estimate: (signal: AbortSignal) => Promise<Estimate>,
): Promise<StepResult<SummaryChoice>> {
  const abort = new AbortController();
  try {
    const placeholder = vscode.l10n.t("Estimating size, time, memory and disk...");
    const found = await waitStep({ ...frame, placeholder }, estimate(abort.signal).catch(failed));
    return typeof found === "symbol" ? found : await askOnPage(frame, found);
  } finally {
    abort.abort(); // a pre-flight that nobody waits for any more
  }
}

function failed(error: unknown): Estimate {
  const message = error instanceof Error ? error.message : String(error);
  const description = `${editorWords(message, vscode.l10n.t)} (${errorCodeOf(error)})`;
  const refusal: PreflightLine = { kind: "refusal", label: vscode.l10n.t("Cannot start"), description };
  return { lines: isCancelled(error) ? [] : [refusal], stages: null };
}

/** View type of the page. */
const summaryViewType = "reroute.summary";

function askOnPage(frame: StepFrame, { lines, stages }: Estimate): Promise<StepResult<SummaryChoice>> {
  const summary: Summary = { title: frame.title, lines, stages, buttons: buttonsFor(lines, frame.canGoBack) };
  const panel = vscode.window.createWebviewPanel(summaryViewType, frame.title, vscode.ViewColumn.Active, {
    enableScripts: true,
    enableFindWidget: true,
    localResourceRoots: [],
  });
  return new Promise((resolve) => {
    panel.onDidDispose(() => resolve(closed));
    panel.webview.onDidReceiveMessage((message: unknown) => {
      const answer = summaryAnswers.find((known) => known === message);
      if (answer === undefined) return;
      resolve(answer === "back" ? back : answer === "close" ? closed : answer);
      panel.dispose();
    });
    const nonce = randomBytes(16).toString("base64url");
    panel.webview.html = summaryHtml(summary, vscode.env.language, nonce, vscode.l10n.t);
  });
}

function buttonsFor(lines: readonly PreflightLine[], canGoBack: boolean): Summary["buttons"] {
  const start = startOf(lines);
  const isTrainedOn = lines.some(({ code }) => code === "data/trained-on");
  const isFull = lines.some(({ code }) => code === "preflight/disk" || code?.startsWith("output/"));
  const button = (answer: SummaryAnswer, label: string, hint?: string) => ({
    answer,
    label,
    ...(hint === undefined ? {} : { hint }),
  });
  return [
    ...(start === "start" ? [button("start", vscode.l10n.t("Start"))] : []),
    ...(start === "force"
      ? [
          isTrainedOn
            ? button(
                "force",
                vscode.l10n.t("Evaluate All the Same"),
                vscode.l10n.t("the verdict will say that this text was trained on"),
              )
            : button("force", vscode.l10n.t("Start All the Same"), vscode.l10n.t("the report will hold the warning")),
        ]
      : []),
    // The question before this one asks for the folder.
    ...(canGoBack ? [button("back", isFull ? vscode.l10n.t("Choose Another Folder...") : vscode.l10n.t("Back"))] : []),
    button("edit", vscode.l10n.t("Edit as Recipe..."), vscode.l10n.t("all options, with completion")),
    button("close", vscode.l10n.t("Cancel")),
  ];
}
