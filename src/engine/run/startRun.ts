import path from "node:path";
import { RerouteError, type ErrorCode } from "../../protocol/errors";
import type { CompressionMethod } from "../../protocol/methods";
import type { Recipe } from "../../protocol/recipe";
import type { RunFile } from "../../protocol/run";
import { blockTokens, leafTokens } from "../execution/leaves";
import { iteratesSubspaces } from "../compression/cost/methodCost";
import { checkFinishedOutput, executeRun } from "./executeRun";
import { removeLeftovers } from "./folder/leftovers";
import { ignoreInGit } from "./folder/gitIgnore";
import { lockRunFolder } from "./folder/lock";
import { withOnlookers } from "./folder/onlookers";
import { runtimeOf, runtimeOptions } from "./machine/machine";
import { requireChosenProvider } from "./machine/providerChoice";
import { ModelCache, type Tokenizers } from "./modelCache";
import { preflight } from "./preflight/preflight";
import {
  appendLog,
  createRunFolder,
  isRunFolder,
  newRun,
  readRun,
  removeEmptyFolders,
  writeRun,
} from "./folder/runFolder";
import { executeSteps } from "./steps/executeSteps";
import type { RunHooks, RunMachinery, RunRequest } from "./runRequest";
export type { RunHooks, RunMachinery } from "./runRequest";
import type { HeavyWork } from "./work";

/**
 * Runs a recipe in a run folder, from where the folder stands: a new one, one that was interrupted, or one that is
 * done (then nothing happens). A changed recipe keeps what does not depend on the change.
 * @throws RerouteError the first refusal of the pre-flight, `run/locked`, `run/invalid`, or what a stage threw
 */
export async function startRun(machinery: RunMachinery, request: RunRequest, hooks: RunHooks): Promise<RunFile> {
  const made = await createRunFolder(request.runDirectory);
  try {
    return await startInFolder(machinery, request, hooks);
  } finally {
    // What was refused leaves nothing behind.
    await removeEmptyFolders(request.runDirectory, made);
  }
}

function startInFolder(machinery: RunMachinery, request: RunRequest, hooks: RunHooks): Promise<RunFile> {
  return withLock(request.runDirectory, hooks, async (shared) => {
    const isNew = !(await isRunFolder(request.runDirectory));
    const id = path.basename(request.runDirectory);
    await requireChosenProvider(request.recipe.provider);
    const run = isNew
      ? { ...newRun(id, request.recipe, request.baseFolder), ...(request.runtime ? { runtime: request.runtime } : {}) }
      : withRecipe(await readRun(request.runDirectory), request.recipe, request.baseFolder);
    return work(machinery, request.runDirectory, run, shared);
  });
}

/**
 * Continues a run folder with the recipe it holds.
 * @throws as startRun
 */
export async function resumeRun(machinery: RunMachinery, runDirectory: string, hooks: RunHooks): Promise<RunFile> {
  await readRun(runDirectory);
  return withLock(runDirectory, hooks, async (shared) =>
    work(machinery, runDirectory, await readRun(runDirectory), shared),
  );
}

async function work(machinery: RunMachinery, runDirectory: string, found: RunFile, hooks: RunHooks): Promise<RunFile> {
  const { signal } = hooks;
  const tokenizers: Tokenizers = new Map();
  const prediction = await preflight(found.recipe, found.baseFolder, {
    runDirectory,
    run: found,
    signal,
    tokenizers,
    force: hooks.force ?? false,
    ownsOutput: hooks.ownsOutput ?? false,
    // The machine is measured once a run; what was predicted then is compared with what happened at its end.
    ...(found.preflight || machinery.worksElsewhere ? {} : { probe: probeWith(machinery, found, hooks, runDirectory) }),
  });
  const [refusal] = prediction.refusals;
  if (refusal) throw new RerouteError(refusal.code as ErrorCode, refusal.message);
  for (const warning of prediction.warnings) hooks.onWarning?.(warning);
  const { numerics } = machinery;
  if (numerics && found.numerics && numerics.hash !== found.numerics.hash)
    hooks.onWarning?.(
      `this run was begun with other arithmetic (${found.numerics.about}) than it goes on with (${numerics.about}): last bits of what is left may differ from those of one machine`,
    );
  const run: RunFile = {
    ...found,
    runtime: runtimeOf(found),
    leaves: { tokens: leafTokens, blockTokens },
    ...(numerics ? { numerics } : {}),
    preflight: found.preflight ?? prediction,
  };
  const models = new ModelCache(tokenizers);
  if (!run.recipe.steps) await checkFinishedOutput({ runDirectory, run, models, ...machinery, ...hooks });
  await ignoreInGit(runDirectory);
  await writeRun(runDirectory, run);
  const removed = await removeLeftovers(runDirectory);
  if (removed.length > 0) await appendLog(runDirectory, { level: "info", event: "leftovers removed", files: removed });
  await appendLog(runDirectory, { level: "info", event: "start", pid: process.pid, versions: run.versions });
  hooks.onChange?.(run);
  if (run.recipe.steps) return executeSteps(machinery, startRun, { runDirectory, run }, hooks);
  return executeRun({ runDirectory, run, models, ...machinery, ...hooks });
}

/** A measurement of this machine for pre-flights; of the disk with `scratchDirectory` on it, or with the system's own. */
export function probeWith(
  { work }: Pick<RunMachinery, "work">,
  run: Pick<RunFile, "recipe"> & Partial<Pick<RunFile, "runtime">>,
  hooks: Pick<RunHooks, "signal" | "report">,
  scratchDirectory?: string,
) {
  return (model: Parameters<HeavyWork["probe"]>[0]["model"], sequenceLength: number) =>
    work.probe({
      runtime: runtimeOf({ runtime: null, ...run }),
      signal: hooks.signal,
      report: hooks.report ?? (() => undefined),
      model,
      sequenceLength,
      ...(scratchDirectory === undefined ? {} : { scratchDirectory }),
      ...methodToMeasure(run.recipe),
    });
}

/** The method whose rates count; of a pipeline's, one that needs rates which others do not. */
function methodToMeasure({ compress, steps = [] }: Recipe): { method?: CompressionMethod } {
  const all = [compress, ...steps.map((step) => step.compress)].flatMap((one) => (one ? [one.method] : []));
  const method = all.find(iteratesSubspaces) ?? all[0];
  return method === undefined ? {} : { method };
}

/** Another recipe for the same folder: stages it no longer asks for are skipped, new ones pending. */
function withRecipe(run: RunFile, recipe: Recipe, baseFolder: string): RunFile {
  const isSame = JSON.stringify(recipe) === JSON.stringify(run.recipe);
  const stages = newRun(run.id, recipe, baseFolder).stages.map((fresh) => {
    const known = run.stages.find(({ id, step }) => id === fresh.id && step === fresh.step);
    const fits = known !== undefined && (known.state === "skipped") === (fresh.state === "skipped");
    // What a pipeline's steps have done is in their own folders.
    return fits && (fresh.step === undefined || isSame) ? known : fresh;
  });
  const machineOf = ({ memory, threads, provider }: Recipe) => JSON.stringify([memory, threads, provider]);
  const isSameMachine = machineOf(recipe) === machineOf(run.recipe);
  return {
    ...run,
    recipe,
    baseFolder: path.resolve(baseFolder),
    name: recipe.name ?? run.name,
    runtime: isSameMachine ? run.runtime : runtimeOptions(recipe),
    stages,
    preflight: isSame ? run.preflight : null,
  };
}

async function withLock<T>(runDirectory: string, hooks: RunHooks, action: (hooks: RunHooks) => Promise<T>): Promise<T> {
  const release = await lockRunFolder(runDirectory);
  try {
    return await withOnlookers(runDirectory, hooks, action);
  } finally {
    await release();
  }
}
