import path from "node:path";
import type { MetricsLine } from "../../protocol/metrics";
import type { ReportProgress } from "../../protocol/progress";
import type { Recipe } from "../../protocol/recipe";
import { stageIds, type RunFile, type StageId } from "../../protocol/run";
import { checkFinishedOutput, executeRun } from "./executeRun";
import { removeLeftovers } from "./folder/leftovers";
import { ignoreInGit } from "./folder/gitIgnore";
import { lockRunFolder } from "./folder/lock";
import { withOnlookers } from "./folder/onlookers";
import { runtimeOf, runtimeOptions } from "./machine/machine";
import { prepareProvider } from "./machine/providerChoice";
import { ModelCache } from "./modelCache";
import { preflight, throwRefusal } from "./preflight/preflight";
import {
  appendLog,
  createRunFolder,
  isRunFolder,
  newRun,
  pendingStage,
  readRun,
  removeEmptyFolders,
  stagesOf,
  writeRun,
} from "./folder/runFolder";
import type { Stage } from "./stages/stage";
import type { HeavyWork } from "./work";

export interface RunHooks {
  signal: AbortSignal;
  report?: ReportProgress;
  onMetrics?: (line: MetricsLine) => void;
  /** After every change of run.json. */
  onChange?: (run: RunFile) => void;
  onWarning?: (message: string) => void;
  /** Goes on where the teacher is not the student's origin. */
  force?: boolean;
}

export interface RunMachinery {
  stages: Readonly<Record<StageId, Stage>>;
  work: HeavyWork;
}

/**
 * Works a recipe off in a run folder, from where the folder stands: a new one, one that was interrupted, or one that is
 * done (then nothing happens). A changed recipe keeps what does not depend on the change.
 * @throws RerouteError the first refusal of the pre-flight, `run/locked`, `run/invalid`, or what a stage threw
 */
export async function startRun(
  machinery: RunMachinery,
  request: { runDirectory: string; recipe: Recipe; baseFolder: string },
  hooks: RunHooks,
): Promise<RunFile> {
  const made = await createRunFolder(request.runDirectory);
  try {
    return await startInFolder(machinery, request, hooks);
  } finally {
    // What was refused leaves nothing behind.
    await removeEmptyFolders(request.runDirectory, made);
  }
}

function startInFolder(
  machinery: RunMachinery,
  request: { runDirectory: string; recipe: Recipe; baseFolder: string },
  hooks: RunHooks,
): Promise<RunFile> {
  return withLock(request.runDirectory, hooks, async (shared) => {
    const isNew = !(await isRunFolder(request.runDirectory));
    const id = path.basename(request.runDirectory);
    await prepareProvider(request.recipe.provider);
    const run = isNew
      ? newRun(id, request.recipe, request.baseFolder)
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
  const prediction = await preflight(found.recipe, found.baseFolder, {
    runDirectory,
    run: found,
    signal,
    force: hooks.force ?? false,
    // The machine is measured once a run; what was predicted then is compared with what happened at its end.
    ...(found.preflight ? {} : { probe: probeWith(machinery, found, hooks, runDirectory) }),
  });
  throwRefusal(prediction);
  for (const warning of prediction.warnings) hooks.onWarning?.(warning);
  const run: RunFile = { ...found, runtime: runtimeOf(found), preflight: found.preflight ?? prediction };
  const models = new ModelCache();
  await checkFinishedOutput({ runDirectory, run, models, ...machinery, ...hooks });
  await ignoreInGit(runDirectory);
  await writeRun(runDirectory, run);
  const removed = await removeLeftovers(runDirectory);
  if (removed.length > 0) await appendLog(runDirectory, { level: "info", event: "leftovers removed", files: removed });
  await appendLog(runDirectory, { level: "info", event: "start", pid: process.pid, versions: run.versions });
  hooks.onChange?.(run);
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
      ...(run.recipe.compress === undefined ? {} : { method: run.recipe.compress.method }),
    });
}

/** Another recipe for the same folder: stages it no longer asks for are skipped, new ones pending. */
function withRecipe(run: RunFile, recipe: Recipe, baseFolder: string): RunFile {
  const wanted = stagesOf(recipe);
  const stages = stageIds.map((id) => {
    const known = run.stages.find((stage) => stage.id === id);
    const fits = known !== undefined && (known.state === "skipped") === !wanted.has(id);
    return fits ? known : pendingStage(id, wanted.has(id));
  });
  const isSame = JSON.stringify(recipe) === JSON.stringify(run.recipe);
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
