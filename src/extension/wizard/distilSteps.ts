import * as vscode from "vscode";
import { distillationPresets } from "../../protocol/presets";
import { checkpointLabel } from "../checkpoints/checkpointFolder";
import { checkpointName } from "../runs/runName";
import { browseItem, fileItem } from "./askForText";
import { back, closed, inputStep, pickStep, type StepItem } from "./pickStep";
import { other, problemOf, type Ask } from "./question";
import { builtStudent, compressedStudent, type StepId } from "./questions";
import { teachingChoices } from "./teachings";
import { expertCounts, parseExperts } from "./validation";

const t = vscode.l10n.t;

/** The questions of Distil Into a Smaller Model. */
export const askDistilStep: Record<Extract<StepId, "student" | "preset" | "ownSequences" | "build">, Ask> = {
  student: async (frame, state, proposed, services) => {
    const teacher = state.context.checkpoint.path;
    const items: Promise<StepItem<string | typeof other>[]> = services.checkpoints.list().then((folders) => [
      {
        label: t("Build a dense student of the teacher's experts"),
        description: t("some experts of each layer become one feed-forward part"),
        iconPath: new vscode.ThemeIcon("tools"),
        value: builtStudent,
      },
      {
        label: t("Compress the teacher's experts"),
        description: t("a smaller Mixture-of-Experts model"),
        iconPath: new vscode.ThemeIcon("fold"),
        value: compressedStudent,
      },
      { label: t("A checkpoint that is there already"), kind: vscode.QuickPickItemKind.Separator },
      ...folders
        .filter((folder) => folder !== teacher)
        .map((folder) => fileItem<string | typeof other>(folder, folder)),
      browseItem(),
    ]);
    const wanted = state.answers.student ?? proposed.student ?? builtStudent;
    const placeholder = t("Which smaller model should learn from {0}?", checkpointName(teacher));
    const picked = await pickStep({ ...frame, placeholder, isActive: ({ value }) => value === wanted }, items);
    if (picked === back || picked === closed) return picked;
    if (picked === builtStudent) return { student: picked, studentIsDense: true };
    if (picked === compressedStudent) return { student: picked, studentIsDense: false };
    const folder = picked === other ? await browse() : picked;
    if (folder === null) return askDistilStep.student(frame, state, proposed, services);
    try {
      const { isDense, supported, unsupportedReason } = await services.checkpoints.inspect(folder);
      if (supported || isDense) return { student: folder, studentIsDense: isDense === true };
      say(`${checkpointLabel(folder)}: ${unsupportedReason ?? t("Not supported")}`);
    } catch (error) {
      say(`${checkpointLabel(folder)}: ${error instanceof Error ? error.message : String(error)}`);
    }
    return askDistilStep.student(frame, state, proposed, services);
  },

  preset: async (frame, state, proposed) => {
    const { studentIsDense = true } = state.answers;
    const wanted = state.answers.preset ?? proposed.preset ?? "kd";
    const preset = await pickStep(
      { ...frame, placeholder: t("How should it be taught?"), isActive: ({ value }) => value === wanted },
      Promise.resolve(teachingChoices(state.context.checkpoint, studentIsDense, t)),
    );
    return typeof preset === "symbol" ? preset : { preset };
  },

  ownSequences: async (frame, state, proposed) => {
    const usual = distillationPresets[state.answers.preset ?? "kd"].onPolicy?.share ?? 0;
    const wanted =
      state.answers.ownSequences ??
      (state.answers.preset === proposed.preset ? proposed.ownSequences : undefined) ??
      usual;
    const share = await pickStep(
      {
        ...frame,
        placeholder: t("Which sequences should it learn on?"),
        isActive: ({ value }) => value === wanted,
      },
      Promise.resolve([
        { label: t("The text"), description: t("texts, or instructions with their answers"), value: 0 },
        { label: t("Half of them written by the student itself"), value: 0.5 },
        { label: t("All written by the student itself"), description: t("on-policy, in rounds"), value: 1 },
      ]),
    );
    return typeof share === "symbol" ? share : { ownSequences: share };
  },

  build: async (frame, state, proposed, services) => {
    const { checkpoint } = state.context;
    const { most } = expertCounts(checkpoint);
    const usual = checkpoint.numExpertsPerToken ?? 1;
    const wanted = state.answers.builtOf ?? proposed.builtOf ?? usual;
    const listed = [usual, 2 * usual].filter((experts) => experts <= most);
    const items: StepItem<number | typeof other>[] = [
      ...listed.map((experts) => ({
        label: t("Of {0} experts a layer", experts),
        ...(experts === usual ? { description: t("as many as a token goes to") } : {}),
        value: experts,
      })),
      { label: t("Another number of experts..."), value: other },
    ];
    const picked = await pickStep(
      {
        ...frame,
        placeholder: t("Which experts they are is measured on the text, before the student is taught"),
        isActive: ({ value }) => value === (listed.includes(wanted) ? wanted : other),
      },
      Promise.resolve(items),
    );
    if (picked !== other) return typeof picked === "symbol" ? picked : { builtOf: picked };
    const check = (text: string) => parseExperts(text, most, t);
    const text = await inputStep(
      { ...frame, canGoBack: true, prompt: t("Experts of each layer, 1 to {0}", most), value: String(wanted) },
      (entered) => problemOf(check(entered)),
    );
    if (text === back) return askDistilStep.build(frame, state, proposed, services);
    const parsed = text === closed ? null : check(text);
    return parsed?.ok ? { builtOf: parsed.value } : closed;
  },
};

async function browse(): Promise<string | null> {
  const [folder] = (await vscode.window.showOpenDialog({ canSelectFiles: false, canSelectFolders: true })) ?? [];
  return folder?.fsPath ?? null;
}

function say(message: string): void {
  void vscode.window.showErrorMessage(t("Reroute: {0}", message));
}
