import { existsSync, statSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import type { Services } from "../services";
import { readSettings } from "../settings";
import { amountChoices, keepChoices, methodChoices } from "./choices";
import { back, closed, inputStep, pickStep, type StepFrame, type StepItem, type StepResult } from "./pickStep";
import type { Amount, Answers, StepId, WizardState } from "./questions";
import { parseAmount, parseKeep } from "./validation";

const t = vscode.l10n.t;
/** Stands for "let me type it" and "let me browse" among the items of a list. */
const other = Symbol("other");

type Ask = (
  frame: StepFrame,
  state: WizardState,
  proposed: Answers,
  services: Services,
) => Promise<StepResult<Answers>>;

/** One question each; the summary is in summaryStep.ts. `proposed` are the answers given last time. */
export const askStep: Record<Exclude<StepId, "summary">, Ask> = {
  method: async (frame, state, proposed) => {
    const items: StepItem<Answers["method"]>[] = methodChoices(t).flatMap(({ title, choices }) => [
      { label: title, kind: vscode.QuickPickItemKind.Separator },
      ...choices,
    ]);
    if (state.context.purpose === "calibrate") {
      items.push(
        { label: t("Without compression"), kind: vscode.QuickPickItemKind.Separator },
        { label: t("Already compressed: choose its teacher..."), value: "none" },
      );
    }
    const wanted = state.answers.method ?? proposed.method ?? "reap";
    const method = await pickStep(
      { ...frame, placeholder: t("How should the experts be compressed?"), isActive: ({ value }) => value === wanted },
      Promise.resolve(items),
    );
    return typeof method === "symbol" ? method : { ...(method === undefined ? {} : { method }) };
  },

  keep: async (frame, state, proposed, services) => {
    const { checkpoint } = state.context;
    const items: StepItem<number | typeof other>[] = keepChoices(checkpoint, t);
    items.push({ label: t("Another ratio or count..."), value: other });
    const wanted = state.answers.keep ?? proposed.keep ?? 0.625;
    const keep = await pickStep<number | typeof other>(
      {
        ...frame,
        placeholder: t("How many experts of each layer should stay?"),
        isActive: ({ value }) => value === wanted,
      },
      Promise.resolve(items),
    );
    if (keep === back || keep === closed) return keep;
    if (typeof keep === "number") return { keep };
    const check = (text: string) => parseKeep(text, checkpoint, t);
    const text = await inputStep(
      {
        ...frame,
        canGoBack: true,
        prompt: t("A fraction such as 0.625, a percentage, or a number of experts"),
        value: String(wanted),
      },
      (entered) => problemOf(check(entered)),
    );
    if (text === back) return askStep.keep(frame, state, proposed, services);
    if (text === closed) return closed;
    const parsed = check(text);
    return parsed.ok ? { keep: parsed.value } : closed;
  },

  teacher: async (frame, state, proposed, services) => {
    const own = state.context.checkpoint.path;
    const items = services.checkpoints
      .list()
      .then((folders) => [
        ...folders.filter((folder) => folder !== own).map((folder) => fileItem<string | typeof other>(folder, folder)),
        browseItem(),
      ]);
    const placeholder =
      state.context.purpose === "compare"
        ? t("Compare with which checkpoint?")
        : t("Which checkpoint was it compressed from?");
    const wanted = state.answers.teacher ?? proposed.teacher;
    const teacher = await pickStep({ ...frame, placeholder, isActive: ({ value }) => value === wanted }, items);
    if (teacher === back || teacher === closed) return teacher;
    if (typeof teacher === "string") return { teacher };
    const [folder] = (await vscode.window.showOpenDialog({ canSelectFiles: false, canSelectFolders: true })) ?? [];
    return folder ? { teacher: folder.fsPath } : askStep.teacher(frame, state, proposed, services);
  },

  text: async (frame, state, proposed, services) => {
    const wanted = state.answers.text ?? proposed.text ?? readSettings().defaultData;
    const items = findTexts([wanted, readSettings().defaultData]).then((texts) => [
      ...texts.map((file) => fileItem<string | typeof other>(file, file)),
      browseItem(),
    ]);
    const text = await pickStep(
      {
        ...frame,
        placeholder: t("Which text shows how the model is used? (.txt or .jsonl)"),
        isActive: ({ value }) => value === wanted,
      },
      items,
    );
    if (text === back || text === closed) return text;
    if (typeof text === "string") return { text };
    const [file] = (await vscode.window.showOpenDialog({ filters: { [t("Text")]: ["txt", "jsonl"] } })) ?? [];
    return file ? { text: file.fsPath } : askStep.text(frame, state, proposed, services);
  },

  amount: async (frame, state, proposed, services) => {
    const bytes = statSync(state.answers.text ?? "", { throwIfNoEntry: false })?.size ?? 0;
    const choices = amountChoices(bytes, t);
    const last = proposed.amount;
    const items: StepItem<Amount | typeof other>[] = [
      ...(last && proposed.text === state.answers.text
        ? [
            {
              label: t("As last time"),
              description: t("{0} sequences of {1} tokens", last.sequences, last.sequenceLength),
              value: last,
            },
          ]
        : []),
      ...choices,
      { label: t("Another amount..."), value: other },
    ];
    const amount = await pickStep<Amount | typeof other>(
      { ...frame, placeholder: t("How much of the text should be used?") },
      Promise.resolve(items),
    );
    if (amount === back || amount === closed) return amount;
    if (amount !== other) return { amount };
    const check = (entered: string) => parseAmount(entered, t);
    const text = await inputStep(
      { ...frame, canGoBack: true, prompt: t("Sequences x tokens a sequence, such as 512 x 256"), value: "512 x 256" },
      (entered) => problemOf(check(entered)),
    );
    if (text === back) return askStep.amount(frame, state, proposed, services);
    if (text === closed) return closed;
    const parsed = check(text);
    return parsed.ok ? { amount: parsed.value } : closed;
  },
};

function browseItem(): StepItem<string | typeof other> {
  return { label: t("Browse..."), iconPath: new vscode.ThemeIcon("folder-opened"), value: other };
}

function problemOf(checked: { ok: true } | { ok: false; problem: string }): string | null {
  return checked.ok ? null : checked.problem;
}

function fileItem<T>(file: string, value: T): StepItem<T> {
  return { label: path.basename(file), description: vscode.workspace.asRelativePath(path.dirname(file)), value };
}

/** Texts of the workspace, those that were used or configured first. */
async function findTexts(first: (string | null | undefined)[]): Promise<string[]> {
  const known = first.filter((file): file is string => typeof file === "string" && existsSync(file));
  const found = await vscode.workspace.findFiles("**/*.{jsonl,txt}", "**/{node_modules,.git,.reroute}/**", 200);
  const paths = found.filter(({ scheme }) => scheme === "file").map(({ fsPath }) => fsPath);
  // Held-out text is for the comparison, not for calibration: offered, but last.
  const heldOut = (file: string) => Number(/eval|held|test|valid/i.test(path.basename(file)));
  return [...new Set([...known, ...paths.sort((a, b) => heldOut(a) - heldOut(b) || a.localeCompare(b))])];
}
