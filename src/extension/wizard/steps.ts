import path from "node:path";
import * as vscode from "vscode";
import { readSettings } from "../settings";
import { askForText, browseItem, fileItem } from "./askForText";
import { amountChoices, countsExperts, keepChoices, methodChoices, recommendation } from "./choices";
import { askDistilStep } from "./distilSteps";
import { askGridStep } from "./gridSteps";
import { proposedOutput } from "./outputOf";
import { hasNoRatio } from "../../protocol/methods";
import { askMethodOptions } from "./askMethodOptions";
import { optionWords } from "./methodOptions";
import { back, closed, inputStep, pickStep, type StepItem } from "./pickStep";
import { other, problemOf, type Ask } from "./question";
import type { Amount, Answers, StepId } from "./questions";
import { textTokens } from "./textTokens";
import { parseAmount, parseKeep } from "./validation";

const t = vscode.l10n.t;

/** Stands for a method's options among ratios. */
const more = Symbol("more");

/** One question each; the summary is in summaryStep.ts, those of a grid in gridSteps.ts. */
export const askStep: Record<Exclude<StepId, "summary">, Ask> = {
  ...askGridStep,
  ...askDistilStep,

  method: async (frame, state, proposed) => {
    const { checkpoint, purpose } = state.context;
    const advised = recommendation(checkpoint, t);
    const items: StepItem<Answers>[] = [
      ...(advised ? [{ ...advised, iconPath: new vscode.ThemeIcon("star-full") }] : []),
      ...methodChoices(t).flatMap(({ title, choices }) => [
        { label: title, kind: vscode.QuickPickItemKind.Separator },
        ...choices.map(({ value, ...shown }) => ({ ...shown, value: { method: value, recommended: false } })),
      ]),
    ];
    if (purpose === "calibrate") {
      items.push(
        { label: t("Without compression"), kind: vscode.QuickPickItemKind.Separator },
        { label: t("Already compressed: choose its teacher..."), value: { method: "none", recommended: false } },
      );
    }
    const { method, recommended } = state.answers.method === undefined ? proposed : state.answers;
    const isAdvised = advised !== null && (method === undefined || recommended === true);
    return pickStep(
      {
        ...frame,
        placeholder: t("How should the experts be compressed?"),
        isActive: ({ value }) =>
          isAdvised ? value === advised.value : value?.recommended !== true && value?.method === (method ?? "reap"),
      },
      Promise.resolve(items),
    );
  },

  keep: async (frame, state, proposed, services) => {
    const { checkpoint } = state.context;
    const answered = state.answers.method ?? proposed.method;
    const method = answered === undefined || answered === "none" ? "reap" : answered;
    const { options } = state.answers.options === undefined ? proposed : state.answers;
    const wanted = state.answers.keep ?? proposed.keep ?? 0.625;
    if (hasNoRatio(method)) {
      const answer = await askMethodOptions(frame, method, options, services);
      return typeof answer === "symbol" ? answer : { keep: wanted, options: answer };
    }
    const items: StepItem<number | typeof other | typeof more>[] = keepChoices(checkpoint, t, method);
    const chosen = options?.method === method ? optionWords(options.chosen) : "";
    items.push(
      { label: t("Another ratio or count..."), value: other },
      {
        label: t("Options of {0}...", method),
        description: chosen === "" ? t("as they stand") : chosen,
        value: more,
      },
    );
    const keep = await pickStep<number | typeof other | typeof more>(
      {
        ...frame,
        placeholder: countsExperts(method)
          ? t("How many experts of each layer should stay?")
          : t("How much of every expert should stay?"),
        isActive: ({ value }) => value === wanted,
      },
      Promise.resolve(items),
    );
    if (keep === back || keep === closed) return keep;
    const withOptions = options ? { options } : {};
    if (typeof keep === "number") return { keep, ...withOptions };
    if (keep === more) {
      const answer = await askMethodOptions({ ...frame, canGoBack: true }, method, options, services);
      if (answer === closed) return closed;
      const answers = answer === back ? state.answers : { ...state.answers, options: answer };
      return askStep.keep(frame, { ...state, answers }, proposed, services);
    }
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
    return parsed.ok ? { keep: parsed.value, ...withOptions } : closed;
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

  text: async (frame, state, proposed) => {
    const { defaultData } = readSettings(state.context.checkpoint.path);
    const wanted = state.answers.text ?? proposed.text ?? defaultData;
    const placeholder = t("Which text shows how the model is used?");
    const text = await askForText({ ...frame, placeholder }, [wanted, defaultData], []);
    return typeof text === "symbol" ? text : { text };
  },

  output: async (frame, state, proposed, services) => {
    const proposal = proposedOutput(state, proposed.output === undefined ? null : path.dirname(proposed.output));
    const items: StepItem<string | typeof other>[] = [
      fileItem<string | typeof other>(proposal, proposal),
      { ...browseItem(), label: t("In another folder...") },
    ];
    const output = await pickStep({ ...frame, placeholder: t("Where should the result go?") }, Promise.resolve(items));
    if (output === back || output === closed) return output;
    if (typeof output === "string") return { output };
    const [parent] = (await vscode.window.showOpenDialog({ canSelectFiles: false, canSelectFolders: true })) ?? [];
    return parent ? { output: proposedOutput(state, parent.fsPath) } : askStep.output(frame, state, proposed, services);
  },

  amount: async (frame, state, proposed, services) => {
    const last = proposed.amount;
    const items = (tokens: number): StepItem<Amount | typeof other>[] => [
      ...(last && proposed.text === state.answers.text
        ? [
            {
              label: t("As last time"),
              description: t("{0} sequences of {1} tokens", last.sequences, last.sequenceLength),
              value: last,
            },
          ]
        : []),
      ...amountChoices(tokens, t),
      { label: t("Another amount..."), value: other },
    ];
    const amount = await pickStep<Amount | typeof other>(
      { ...frame, placeholder: t("How much of the text should be used?") },
      textTokens(state.answers.text, state.context.checkpoint.path, services.engine).then(items),
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
