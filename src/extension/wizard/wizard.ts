import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import type { ComparisonStart } from "../../protocol/engine";
import type { Recipe } from "../../protocol/recipe";
import { checkpointName, runId } from "../runs/runName";
import type { Services } from "../services";
import { readSettings } from "../settings";
import { comparisonRecipeOf } from "./comparisonRecipeOf";
import { actionOf } from "./actionOf";
import { proposedOutput } from "./outputOf";
import { back, closed, type StepFrame, type StepResult } from "./pickStep";
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
import { comparisonSummaryStep, summaryStep, type SummaryChoice } from "./summaryStep";
import { textTokens } from "./textTokens";

export interface WizardResult {
  action: SummaryChoice;
  recipe: Recipe;
  baseFolder: string;
}

/** Leads through the questions with back, and ends in a recipe; null when the user gave up. */
export function runWizard(
  purpose: Exclude<Purpose, "compareMethods">,
  checkpoint: CheckpointSummary,
  services: Services,
): Promise<WizardResult | null> {
  const baseFolder = path.dirname(checkpoint.path);
  return leadThrough(purpose, checkpoint, services, async (frame, state) => {
    const recipe = recipeOf(state.context, state.answers, await surroundings(state, services));
    const action = await summaryStep(frame, recipe, baseFolder, services);
    return typeof action === "symbol" ? action : { action, recipe, baseFolder };
  });
}

export interface ComparisonWizardResult {
  action: SummaryChoice;
  start: ComparisonStart;
}

/** The same for a comparison; its folder is a new one in the workspace's folder of runs. */
export function runComparisonWizard(
  checkpoint: CheckpointSummary,
  services: Services,
): Promise<ComparisonWizardResult | null> {
  return leadThrough("compareMethods", checkpoint, services, async (frame, { context, answers }) => {
    const name = `${checkpointName(checkpoint.path)} compared`;
    const { memory, threads, provider } = readSettings(checkpoint.path);
    const heldOutTokens = await textTokens(answers.heldOut, checkpoint.path, services.engine);
    const recipe = comparisonRecipeOf(context, answers, { name, heldOutTokens, memory, threads, provider });
    const folder = services.runList.folderFor(checkpoint.path);
    const id = runId(name, new Date(), (candidate) => existsSync(path.join(folder, candidate)));
    const start = { directory: path.join(folder, id), recipe, baseFolder: path.dirname(checkpoint.path), name };
    const action = await comparisonSummaryStep(frame, start, services);
    return typeof action === "symbol" ? action : { action, start };
  });
}

/** Asks one question after the other; `summarise` is the last. The answers are proposed again next time. */
async function leadThrough<T extends object>(
  purpose: Purpose,
  checkpoint: CheckpointSummary,
  services: Services,
  summarise: (frame: StepFrame, state: WizardState) => Promise<StepResult<T>>,
): Promise<T | null> {
  const memory = services.context.workspaceState;
  const remembered = `answers.${purpose}`;
  const proposed = memory.get<Answers>(remembered, {});
  let state: WizardState | null = startWizard({ purpose, checkpoint });

  while (state) {
    const frame: StepFrame = {
      title: titleOf(purpose, checkpoint),
      ...positionOf(state),
      canGoBack: stepsOf(state.context, state.answers)[0] !== state.step,
    };
    if (state.step === "summary") {
      const result: StepResult<T> = await summarise(frame, state);
      if (result === closed) return null;
      if (result !== back) {
        await memory.update(remembered, state.answers);
        return result;
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
  const name = checkpointName(folder);
  const titles: Record<Purpose, string> = {
    calibrate: vscode.l10n.t("Calibrate router of {0}", name),
    distil: vscode.l10n.t("Distil {0} into a smaller model", name),
    compress: vscode.l10n.t("Compress experts of {0}", name),
    profile: vscode.l10n.t("Profile routing of {0}", name),
    evaluate: vscode.l10n.t("Evaluate {0}", name),
    compare: vscode.l10n.t("Compare {0} with another checkpoint", name),
    compareMethods: vscode.l10n.t("Compare methods on {0}", name),
  };
  return titles[purpose];
}

async function surroundings({ context, answers }: WizardState, { engine }: Services): Promise<RecipeSurroundings> {
  const { memory, threads, provider } = readSettings(context.checkpoint.path);
  return {
    output: answers.output ?? proposedOutput({ context, answers }, null),
    name: `${checkpointName(context.checkpoint.path)} ${actionOf({ context, answers })}`,
    heldOutTokens: await textTokens(answers.heldOut, context.checkpoint.path, engine),
    memory,
    threads,
    provider,
  };
}
