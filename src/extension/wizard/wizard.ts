import { existsSync, statSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import type { Recipe } from "../../protocol/recipe";
import { outputFolder } from "../runs/runName";
import type { Services } from "../services";
import { readSettings } from "../settings";
import { back, closed, type StepFrame } from "./pickStep";
import {
  nextWizardState,
  positionOf,
  startWizard,
  stepsOf,
  type Answers,
  type Purpose,
  type WizardState,
} from "./questions";
import { recipeOf, type RecipeSurroundings } from "./recipeOf";
import { askStep } from "./steps";
import { summaryStep } from "./summaryStep";

export interface WizardResult {
  action: "start" | "edit";
  recipe: Recipe;
  baseFolder: string;
}

/** Leads through the questions with back, and ends in a recipe; null when the user gave up. */
export async function runWizard(
  purpose: Purpose,
  checkpoint: CheckpointSummary,
  services: Services,
): Promise<WizardResult | null> {
  const memory = services.context.workspaceState;
  const remembered = `answers.${purpose}`;
  const proposed = memory.get<Answers>(remembered, {});
  const baseFolder = path.dirname(checkpoint.path);
  let state: WizardState | null = startWizard({ purpose, checkpoint });

  while (state) {
    const frame: StepFrame = {
      title: titleOf(purpose, checkpoint),
      ...positionOf(state),
      canGoBack: stepsOf(state.context, state.answers)[0] !== state.step,
    };
    if (state.step === "summary") {
      const recipe = recipeOf(state.context, state.answers, surroundings(state));
      const action = await summaryStep(frame, recipe, baseFolder, services);
      if (action === closed) return null;
      if (action !== back) {
        await memory.update(remembered, state.answers);
        return { action, recipe, baseFolder };
      }
      state = nextWizardState(state, { type: "back" });
    } else {
      const answers = await askStep[state.step](frame, state, proposed, services);
      if (answers === closed) return null;
      state = nextWizardState(state, answers === back ? { type: "back" } : { type: "answered", answers });
    }
  }
  return null;
}

function titleOf(purpose: Purpose, { path: folder }: CheckpointSummary): string {
  const name = path.basename(folder);
  const titles: Record<Purpose, string> = {
    calibrate: vscode.l10n.t("Calibrate router of {0}", name),
    compress: vscode.l10n.t("Compress experts of {0}", name),
    profile: vscode.l10n.t("Profile routing of {0}", name),
    evaluate: vscode.l10n.t("Evaluate {0}", name),
    compare: vscode.l10n.t("Compare {0} with another checkpoint", name),
  };
  return titles[purpose];
}

function surroundings({ context, answers }: WizardState): RecipeSurroundings {
  const { memory, threads, provider } = readSettings();
  const { checkpoint, purpose } = context;
  const what = answers.keep === undefined ? purpose : `${answers.method ?? ""}-${answers.keep}`;
  const suffix = purpose === "calibrate" && answers.keep !== undefined ? `${what}-calibrated` : what;
  return {
    output: outputFolder(checkpoint.path, suffix, existsSync),
    name: `${path.basename(checkpoint.path)} ${what}`,
    evaluationText: answers.text === undefined ? null : evaluationTextBeside(answers.text),
    memory,
    threads,
    provider,
  };
}

/** evaluation.jsonl or evaluation.txt in the folder of the calibration text, where there is one. */
function evaluationTextBeside(text: string): { path: string; bytes: number } | null {
  for (const name of ["evaluation.jsonl", "evaluation.txt"]) {
    const candidate = path.join(path.dirname(text), name);
    const bytes = statSync(candidate, { throwIfNoEntry: false })?.size;
    if (bytes !== undefined && candidate !== text) return { path: candidate, bytes };
  }
  return null;
}
