import * as vscode from "vscode";
import type { CompressionMethod } from "../../protocol/methods";
import { askForText } from "./askForText";
import { keepChoices, methodChoices } from "./choices";
import { evaluationTextBeside } from "./heldOutText";
import { back, closed, inputStep, pickManyStep, pickStep, type StepItem } from "./pickStep";
import { other, problemOf, type Ask } from "./question";
import { noVerdict, splitOff } from "./questions";
import { parseKeeps } from "./validation";

const t = vscode.l10n.t;

/** A comparison's grid, whether its cells are calibrated, and what students are measured on. */
export const askGridStep: Record<"methods" | "ratios" | "recovery" | "heldOut", Ask> = {
  methods: async (frame, state, proposed) => {
    const items: StepItem<CompressionMethod>[] = methodChoices(t).flatMap(({ title, choices }) => [
      { label: title, kind: vscode.QuickPickItemKind.Separator },
      ...choices,
    ]);
    const wanted = state.answers.methods ?? proposed.methods ?? ["reap"];
    const methods = await pickManyStep(
      { ...frame, placeholder: t("Which methods should be compared?") },
      items,
      (method) => wanted.includes(method),
      (ticked) => (ticked.length > 0 ? null : t("Tick at least one method")),
    );
    return typeof methods === "symbol" ? methods : { methods };
  },

  ratios: async (frame, state, proposed, services) => {
    const { checkpoint } = state.context;
    const choices = keepChoices(checkpoint, t);
    const items: StepItem<number | typeof other>[] = [
      ...choices,
      { label: t("Other ratios or counts..."), value: other },
    ];
    const wanted = state.answers.ratios ?? proposed.ratios ?? [0.625];
    const isListed = (keep: number) => choices.some(({ value }) => value === keep);
    const ratios = await pickManyStep<number | typeof other>(
      { ...frame, placeholder: t("Each method at which ratios?") },
      items,
      (keep) => (keep === other ? wanted.some((value) => !isListed(value)) : wanted.includes(keep)),
      (ticked) => (ticked.length > 0 ? null : t("Tick at least one ratio")),
    );
    if (ratios === back || ratios === closed) return ratios;
    const ticked = ratios.filter((keep) => typeof keep === "number");
    if (ticked.length === ratios.length) return { ratios: ticked };
    const check = (text: string) => parseKeeps(text, checkpoint, t);
    const text = await inputStep(
      {
        ...frame,
        canGoBack: true,
        prompt: t("Fractions, percentages or numbers of experts, with commas between"),
        value: [...ticked, ...wanted.filter((keep) => !isListed(keep))].join(", "),
      },
      (entered) => problemOf(check(entered)),
    );
    if (text === back) return askGridStep.ratios(frame, state, proposed, services);
    if (text === closed) return closed;
    const parsed = check(text);
    return parsed.ok ? { ratios: parsed.value } : closed;
  },

  recovery: async (frame, state, proposed) => {
    const wanted = state.answers.recovery ?? proposed.recovery ?? true;
    const recovery = await pickStep<boolean>(
      { ...frame, placeholder: t("What should each cell do?"), isActive: ({ value }) => value === wanted },
      Promise.resolve([
        {
          label: t("Compress and calibrate"),
          description: t("measured before and after Router KD"),
          value: true,
        },
        { label: t("Compress only"), description: t("much faster"), value: false },
      ]),
    );
    return typeof recovery === "symbol" ? recovery : { recovery };
  },

  heldOut: async (frame, state, proposed) => {
    const { text } = state.answers;
    const beside = text === undefined ? null : evaluationTextBeside(text);
    const isGrid = state.context.purpose === "compareMethods";
    const placeholder = isGrid
      ? t("Which other text is every cell measured on?")
      : t("Which held-out text gives the verdict?");
    const others: StepItem<string>[] = isGrid
      ? []
      : [
          {
            label: t("Split it off the calibration text"),
            description: t("the sequences behind those that are trained on"),
            iconPath: new vscode.ThemeIcon("split-horizontal"),
            value: splitOff,
          },
          { label: t("No verdict"), description: t("nothing is measured"), value: noVerdict },
        ];
    const first = [state.answers.heldOut, beside?.path, proposed.heldOut, isGrid ? undefined : splitOff];
    // What is calibrated on says nothing about what was recovered.
    const heldOut = await askForText({ ...frame, placeholder }, first, text === undefined ? [] : [text], others);
    return typeof heldOut === "symbol" ? heldOut : { heldOut };
  },
};
