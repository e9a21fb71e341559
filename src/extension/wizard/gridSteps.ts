import * as vscode from "vscode";
import type { CompressionMethod } from "../../protocol/recipe";
import { askForText } from "./askForText";
import { keepChoices, methodChoices } from "./choices";
import { evaluationTextBeside } from "./heldOutText";
import { back, closed, inputStep, pickManyStep, pickStep, type StepItem } from "./pickStep";
import { other, problemOf, type Ask } from "./question";
import { parseKeeps } from "./validation";

const t = vscode.l10n.t;

/** The questions that only a comparison asks: its grid, whether cells are calibrated, and what they are measured on. */
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
    const placeholder = t("Which other text is every cell measured on?");
    const first = [state.answers.heldOut, beside?.path, proposed.heldOut];
    // What is calibrated on says nothing about what was recovered.
    const heldOut = await askForText({ ...frame, placeholder }, first, text === undefined ? [] : [text]);
    return typeof heldOut === "symbol" ? heldOut : { heldOut };
  },
};
