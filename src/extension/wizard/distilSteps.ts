import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { distillationPresets } from "../../protocol/presets";
import { errorCodeOf, isCancelled } from "../../protocol/errors";
import { checkpointLabel } from "../checkpoints/checkpointFolder";
import { checkpointName } from "../runs/runName";
import type { Services } from "../services";
import { browseItem, fileItem } from "./askForText";
import { builtFolder } from "./outputOf";
import { back, closed, inputStep, pickStep, type StepItem } from "./pickStep";
import { other, problemOf, type Ask } from "./question";
import { builtStudent, compressedStudent, type StepId, type WizardState } from "./questions";
import { buildRecipeOf } from "./recipeOf";
import { readSettings } from "../settings";
import { teachingChoices } from "./teachings";
import { expertCounts, parseExperts } from "./validation";

const t = vscode.l10n.t;

let builds = 0;

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
    const before = state.answers.built;
    type Way = number | "before" | typeof other;
    const known: StepItem<Way>[] =
      before !== undefined && existsSync(before)
        ? [{ label: t("Take the one that was just built"), description: checkpointLabel(before), value: "before" }]
        : [];
    const items: StepItem<Way>[] = [
      ...known,
      {
        label: t("Build it now of {0} experts a layer", usual),
        description: t("as many as a token goes to"),
        value: usual,
      },
      ...(2 * usual <= most ? [{ label: t("Build it now of {0} experts a layer", 2 * usual), value: 2 * usual }] : []),
      { label: t("Another number of experts..."), value: other },
    ];
    const way = await pickStep<Way>(
      { ...frame, placeholder: t("The student is measured on the text and written before it can be estimated") },
      Promise.resolve(items),
    );
    if (way === back || way === closed) return way;
    if (way === "before") return { built: before! };
    let experts: number;
    if (way === other) {
      const check = (text: string) => parseExperts(text, most, t);
      const text = await inputStep(
        { ...frame, canGoBack: true, prompt: t("Experts of each layer, 1 to {0}", most), value: String(usual) },
        (entered) => problemOf(check(entered)),
      );
      if (text === back) return askDistilStep.build(frame, state, proposed, services);
      const parsed = text === closed ? null : check(text);
      if (parsed === null || !parsed.ok) return closed;
      experts = parsed.value;
    } else experts = way;
    const built = await build(state, experts, services);
    return built === null ? askDistilStep.build(frame, state, proposed, services) : { built };
  },
};

/** Builds the student, showing how far it is; null when that was cancelled or failed, which is then said. */
async function build(state: WizardState, experts: number, { engine }: Services): Promise<string | null> {
  const { checkpoint } = state.context;
  const { memory, threads, provider } = readSettings(checkpoint.path);
  const output = builtFolder(checkpoint.path, experts);
  const recipe = buildRecipeOf(checkpoint, state.answers, { output, memory, threads, provider });
  const id = `student-${++builds}`;
  const location = vscode.ProgressLocation.Notification;
  const title = t("Building a dense student of {0}", checkpointName(checkpoint.path));
  return vscode.window.withProgress({ location, title, cancellable: true }, async (progress, token) => {
    const abort = new AbortController();
    token.onCancellationRequested(() => abort.abort());
    let done = 0;
    const stopListening = engine.onEvent((event) => {
      if (event.name !== "student/progress" || event.body.id !== id) return;
      const { done: now, total, message } = event.body.progress;
      const percent = total > 0 ? (100 * now) / total : 0;
      progress.report({ message, increment: Math.max(0, percent - done) });
      done = percent;
    });
    try {
      const baseFolder = path.dirname(checkpoint.path);
      return (await engine.request("student/build", { id, recipe, baseFolder, experts }, abort.signal)).output;
    } catch (error) {
      if (!isCancelled(error)) say(`${error instanceof Error ? error.message : String(error)} (${errorCodeOf(error)})`);
      return null;
    } finally {
      stopListening();
    }
  });
}

async function browse(): Promise<string | null> {
  const [folder] = (await vscode.window.showOpenDialog({ canSelectFiles: false, canSelectFolders: true })) ?? [];
  return folder?.fsPath ?? null;
}

function say(message: string): void {
  void vscode.window.showErrorMessage(t("Reroute: {0}", message));
}
