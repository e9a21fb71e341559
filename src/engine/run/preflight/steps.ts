import type { Recipe } from "../../../protocol/recipe";
import type { Preflight } from "../../../protocol/run";
import type { PredictedModel } from "../../compression/predictedModel";
import { isRunFolder, readRun } from "../folder/runFolder";
import { runtimeOf } from "../machine/machine";
import { pipelineSteps, stepsProblem, type RunStep } from "../steps/pipelineSteps";
import type { MachineProbe } from "../work";
import type { PreflightOptions } from "./options";
import { diskRefusal } from "./refusals";

/** One run's pre-flight, and what the next one can be asked with. */
export interface PredictedRun {
  preflight: Preflight;
  /** The checkpoint that the run will leave; null where that is not known. */
  leaves: PredictedModel | null;
  /** Of the disk that it needs, what it does not keep. */
  scratchBytes: number;
}

type PreflightRun = (recipe: Recipe, baseFolder: string, options: PreflightOptions) => Promise<PredictedRun>;

/**
 * A pipeline's pre-flight: each step's own, on the checkpoint that the step before it will leave, as far as its shapes tell. A
 * step that cannot follow is refused by its number and name; nothing is said of those behind it.
 */
export async function preflightSteps(
  recipe: Recipe,
  baseFolder: string,
  options: PreflightOptions,
  one: PreflightRun,
): Promise<Preflight> {
  const problem = stepsProblem(recipe);
  if (problem !== null) return refused(recipe, problem);
  const done: (PredictedRun & { step: RunStep })[] = [];
  const probe = measuredOnce(options.probe);
  let predicted: PredictedModel | undefined;
  const seen = new Set<string>();
  for (const step of pipelineSteps(recipe, options.runDirectory)) {
    const run = (await isRunFolder(step.runDirectory)) ? await readRun(step.runDirectory) : undefined;
    const reads = step.recipe.calibrate ? "calibrate" : "compress";
    const result = await one(step.recipe, baseFolder, {
      runDirectory: step.runDirectory,
      ...(run ? { run } : {}),
      runtime: options.run?.runtime ?? null,
      ...(probe ? { probe } : {}),
      ...(predicted ? { predicted } : {}),
      ...(options.force === undefined ? {} : { force: options.force }),
      ...(options.signal ? { signal: options.signal } : {}),
      ownsOutput: step.ownsOutput,
      skipsTexts: seen.has(reads),
      showsText: (options.showsText ?? false) && seen.size === 0,
    });
    seen.add(reads);
    done.push({ ...result, step });
    if (result.preflight.refusals.length > 0 || result.leaves === null) break;
    // What is there already is looked at, not predicted.
    const isMade = run?.stages.every(({ state }) => state === "done" || state === "skipped") ?? false;
    predicted = isMade ? undefined : result.leaves;
  }
  return together(done);
}

function together(done: readonly (PredictedRun & { step: RunStep })[]): Preflight {
  const all = done.map(({ preflight }) => preflight);
  const [first, last] = [all[0]!, all.at(-1)!];
  const named = ({ step }: { step: RunStep }, message: string) => `Step ${step.number} (${step.name}): ${message}`;
  const kept = done.reduce((sum, { preflight, scratchBytes }) => sum + preflight.diskNeededBytes - scratchBytes, 0);
  const diskNeededBytes = kept + Math.max(...done.map(({ scratchBytes }) => scratchBytes));
  const diskFreeBytes = Math.min(...all.map((p) => p.diskFreeBytes));
  const refusals = done.flatMap((one) =>
    one.preflight.refusals.map(({ code, message }) => ({ code, message: named(one, message) })),
  );
  const disk = diskRefusal(diskNeededBytes, diskFreeBytes);
  return {
    ...first,
    parametersAfter: last.parametersAfter,
    bytesAfter: last.bytesAfter,
    ...{ diskNeededBytes, diskFreeBytes },
    peakMemoryBytes: Math.max(...all.map((p) => p.peakMemoryBytes)),
    stages: done.flatMap(({ preflight, step }) =>
      preflight.stages.filter(({ stage }) => stage !== "report").map((stage) => ({ ...stage, step: step.number })),
    ),
    seconds: all.reduce((sum, { seconds }) => sum + seconds, 0),
    steps: done.map(({ preflight: p, step }) => ({
      name: step.name,
      parameters: p.parametersAfter,
      bytes: p.bytesAfter,
      seconds: p.seconds,
      peakMemoryBytes: p.peakMemoryBytes,
    })),
    trained: all.findLast(({ trained }) => trained)?.trained ?? null,
    refusals: disk && refusals.every(({ code }) => code !== disk.code) ? [...refusals, disk] : refusals,
    warnings: [...new Set(done.flatMap((one) => one.preflight.warnings.map((warning) => named(one, warning))))],
  };
}

function refused(recipe: Recipe, message: string): Preflight {
  const sizes = { parametersBefore: 0, parametersAfter: 0, bytesBefore: 0, bytesAfter: 0 };
  return {
    ...sizes,
    ...{ diskNeededBytes: 0, diskFreeBytes: 0, peakMemoryBytes: 0 },
    memoryBudgetBytes: runtimeOf({ runtime: null, recipe }).memoryBudgetBytes,
    ...{ stages: [], seconds: 0, warnings: [] },
    refusals: [{ code: "recipe/invalid", message }],
  };
}

/** The machine is measured on the teacher, which all steps have in common. */
function measuredOnce(probe: PreflightOptions["probe"]): PreflightOptions["probe"] {
  let measured: Promise<MachineProbe> | undefined;
  return probe && ((...asked) => (measured ??= probe(...asked)));
}
