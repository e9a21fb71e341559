import type { RerouteError } from "../../../protocol/errors";
import type { ExecutionProvider, Recipe } from "../../../protocol/recipe";
import type { StageId } from "../../../protocol/run";
import { availableMemoryBytes } from "../machine/machine";
import { smallestMemory, stageBeyondBudget } from "./estimates";
import type { EstimateInput } from "./stageTimes";

export interface Refusal {
  code: RerouteError["code"];
  message: string;
}

/** Why a run does not fit the disk; null where it does. */
export function diskRefusal(neededBytes: number, freeBytes: number): Refusal | null {
  if (neededBytes <= freeBytes) return null;
  return {
    code: "preflight/disk",
    message: `The run writes ${formatGiB(neededBytes)}, but only ${formatGiB(freeBytes)} are free where it would write; free some space or choose another disk`,
  };
}

/**
 * Why a run does not fit its memory budget; null where it does.
 *
 * @param open stages that are still to be worked on; null where there are no estimates of them
 */
export function memoryRefusal(input: EstimateInput, open: ReadonlySet<StageId> | null): Refusal | null {
  const { recipe, teacher, student, trained, memoryBudgetBytes: budget } = input;
  const code = "preflight/memory";
  const smallest = smallestMemory(recipe, teacher, trained, student);
  const atLeast = (bytes: number) => `set at least --memory ${Math.ceil(bytes / 2 ** 20)}MiB`;
  if (smallest > budget) {
    const what = trained?.sizes
      ? `training ${trained.parameters} numbers (scope ${trained.scope}: weights, gradients, moments and best step, f32)`
      : "one layer of this model";
    const message = `The memory budget is ${formatGiB(budget)}, ${what} needs ${formatGiB(smallest)}; ${atLeast(smallest)}`;
    return { code, message };
  }
  const beyond = open && stageBeyondBudget(input, open);
  if (!beyond) return null;
  const { stage, peakMemoryBytes, fittingBudgetBytes, option } = beyond;
  const what =
    stage !== "compress"
      ? `stage ${stage}`
      : recipe.compress
        ? `compressing by ${recipe.compress.method}`
        : "building the student";
  const lighter = option === null ? "" : `use the option ${option} (--set ${option}), with which it fits, or `;
  return {
    code,
    message: `The memory budget is ${formatGiB(budget)}, ${what} needs ${formatGiB(peakMemoryBytes)} at its peak; ${lighter}${atLeast(fittingBudgetBytes)}`,
  };
}

/** Why a preview cannot run on a provider; null where it can. */
export function previewRefusal({ precision }: Pick<Recipe, "precision">, provider: ExecutionProvider): Refusal | null {
  if (precision !== "preview" || provider === "cpu") return null;
  return {
    code: "arguments/invalid",
    message: `precision preview computes on the CPU, and the execution provider is ${provider}; choose the CPU (--provider cpu), or precision exact`,
  };
}

/** A run keeps the budget it began with, which this machine may no longer have. */
export function lessMemory(budget: number): string[] {
  const available = availableMemoryBytes();
  if (budget <= available) return [];
  return [
    `The memory budget is ${formatGiB(budget)}, but only ${formatGiB(available)} are available now; the system may swap or end the run. "memory" in the recipe sets another budget`,
  ];
}

function formatGiB(bytes: number): string {
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
