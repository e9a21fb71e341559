import { mkdir, readdir, readFile, rmdir, stat } from "node:fs/promises";
import path from "node:path";
import { RerouteError } from "../../../protocol/errors";
import { namedStudent, studentToBuild } from "../../../protocol/denseStudent";
import type { Recipe } from "../../../protocol/recipe";
import { runFile, runFiles, stageIds, type RunFile, type StageId, type StageRecord } from "../../../protocol/run";
import { appendLine, writeError, writeFileAtomically } from "../../checkpoint/atomicFile";
import { needsStatistics } from "../../compression/methodNeeds";
import { resolveHubPath } from "../../checkpoint/hubCache";
import { quote } from "../../checkpoint/quote";
import { engineVersion } from "../../../protocol/version";
import { pipelineSteps } from "../steps/pipelineSteps";
import { runtimeOptions } from "../machine/machine";
import { comparisonFiles } from "../../../protocol/compare";

/** run.json is small; a larger one is not ours. */
const maxRunFileBytes = 16 * 2 ** 20;

/** Where a run's files are. Paths of the recipe are relative to its base folder, or name models of the Hugging Face cache. */
export interface RunPaths {
  runDirectory: string;
  teacher: string;
  /** The checkpoint to profile and compress: the recipe's source, or the teacher. */
  source: string;
  /** The checkpoint to calibrate: the recipe's student, or what compression or building wrote. */
  student: string;
  calibrationData: string;
  evaluationData: string | null;
  /** Multiple-choice items. */
  task: string | null;
  /** Folder of the tokenizer and the chat template. */
  tokenizer: string;
  plan: string | null;
  output: string;
  file: (name: keyof typeof runFiles) => string;
}

export async function runPaths(runDirectory: string, recipe: Recipe, baseFolder: string): Promise<RunPaths> {
  const resolve = (p: string): string => path.resolve(baseFolder, p);
  const checkpoint = (written: string): Promise<string> => resolveHubPath(resolve(written), written);
  const file = (name: keyof typeof runFiles): string => path.join(runDirectory, runFiles[name]);
  const { calibration, splitEvaluation } = recipe.data;
  const evaluation = recipe.data.evaluation ?? (splitEvaluation ? calibration : undefined);
  const output = resolve(recipe.output);
  const named = namedStudent(recipe);
  const compressed = recipe.calibrate ? file("compressed") : output;
  return {
    runDirectory,
    teacher: await checkpoint(recipe.teacher),
    source: await checkpoint(recipe.source ?? recipe.teacher),
    student: named !== undefined ? await checkpoint(named) : compressed,
    calibrationData: resolve(recipe.data.calibration),
    evaluationData: evaluation === undefined ? null : resolve(evaluation),
    task: recipe.data.task === undefined ? null : resolve(recipe.data.task),
    tokenizer: await checkpoint(recipe.data.tokenizer ?? recipe.teacher),
    plan: recipe.compress?.plan === undefined ? null : resolve(recipe.compress.plan),
    output,
    file,
  };
}

/** Stages that a recipe asks for; the others are recorded as skipped. */
export function stagesOf(recipe: Recipe): Set<StageId> {
  const { compress, source } = recipe;
  const compresses = (compress !== undefined && recipe.student === undefined) || studentToBuild(recipe) !== undefined;
  // The teacher is profiled whatever the method, for its own sake; what was compressed before, only where the method looks.
  const isLookedAt = source === undefined || !compress || compress.plan !== undefined || needsStatistics(compress);
  const wanted: Record<StageId, boolean> = {
    profile: recipe.student === undefined && isLookedAt && !recipe.evaluateOnly,
    compress: compresses,
    calibrate: recipe.calibrate !== undefined,
    evaluate: recipe.data.evaluation !== undefined || recipe.data.splitEvaluation === true,
    report: true,
  };
  return new Set(stageIds.filter((id) => wanted[id]));
}

/** The record of a run that has not begun. */
export function newRun(id: string, recipe: Recipe, baseFolder: string): RunFile {
  const wanted = stagesOf(recipe);
  return {
    schemaVersion: 1,
    id,
    name: recipe.name ?? id,
    createdAt: new Date().toISOString(),
    reroute: engineVersion,
    recipe,
    baseFolder: path.resolve(baseFolder),
    versions: { reroute: engineVersion, node: process.version, platform: `${process.platform}-${process.arch}` },
    runtime: runtimeOptions(recipe),
    stages: recipe.steps ? stepStages(recipe) : stageIds.map((stage) => pendingStage(stage, wanted.has(stage))),
    preflight: null,
  };
}

/** The stages of all steps of a pipeline that has not begun, and its report. */
export function stepStages(recipe: Recipe): StageRecord[] {
  return [
    ...pipelineSteps(recipe, "").flatMap(({ number, recipe: own }) =>
      [...stagesOf(own)].filter((id) => id !== "report").map((id) => ({ ...pendingStage(id), step: number })),
    ),
    pendingStage("report"),
  ];
}

/** What a run's outputs are marked with while they are unfinished: tells them from those of a run of the same name. */
export function idOf({ id, createdAt }: RunFile): string {
  return `${id} ${createdAt}`;
}

export function pendingStage(id: StageId, wanted = true): StageRecord {
  return {
    id,
    state: wanted ? "pending" : "skipped",
    startedAt: null,
    finishedAt: null,
    seconds: 0,
    peakMemoryBytes: null,
    inputHash: null,
    error: null,
  };
}

/** Whether a folder holds a run. */
export async function isRunFolder(runDirectory: string): Promise<boolean> {
  try {
    return (await stat(path.join(runDirectory, runFiles.run))).isFile();
  } catch {
    return false;
  }
}

/** @throws RerouteError `run/invalid` */
export async function readRun(runDirectory: string): Promise<RunFile> {
  const file = path.join(runDirectory, runFiles.run);
  const invalid = (problem: string, cause?: unknown): RerouteError =>
    new RerouteError("run/invalid", `The run ${quote(runDirectory)} cannot be read: ${problem}`, { cause });
  let value: unknown;
  try {
    const { size } = await stat(file);
    if (size > maxRunFileBytes) throw invalid(`${runFiles.run} has ${size} bytes, the limit is ${maxRunFileBytes}`);
    value = JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    if (error instanceof RerouteError) throw error;
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw invalid(
      missing ? `it has no ${runFiles.run}; is this a run folder?` : `${runFiles.run}: ${String(error)}`,
      error,
    );
  }
  const parsed = runFile.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw invalid(`${runFiles.run} does not follow its schema at ${issue.path.join(".")}: ${issue.message}`);
}

export async function writeRun(runDirectory: string, run: RunFile): Promise<void> {
  await writeFileAtomically(path.join(runDirectory, runFiles.run), `${JSON.stringify(run, null, 2)}\n`);
}

/**
 * @returns the outermost folder that was not there, for {@link removeEmptyFolders}; null where all were
 * @throws RerouteError output/write-failed
 */
export async function createRunFolder(runDirectory: string): Promise<string | null> {
  try {
    return (await mkdir(runDirectory, { recursive: true })) ?? null;
  } catch (error) {
    throw writeError(error, runDirectory);
  }
}

/** Removes folders that were made for a run, innermost first, up to the first that is not empty. */
export async function removeEmptyFolders(directory: string, outermost: string | null): Promise<void> {
  if (outermost === null) return;
  const last = path.dirname(outermost);
  for (let folder = directory; folder !== last && folder !== path.dirname(folder); folder = path.dirname(folder)) {
    try {
      await rmdir(folder);
    } catch {
      return;
    }
  }
}

/** One line of log.jsonl: what happened in a run, for people who look for trouble. */
export async function appendLog(
  runDirectory: string,
  entry: { level: "info" | "warning" | "error"; event: string } & Record<string, unknown>,
): Promise<void> {
  await appendLine(path.join(runDirectory, runFiles.log), JSON.stringify({ at: new Date().toISOString(), ...entry }));
}

/** Runs directly below a folder, and those of the comparisons below it. */
export async function runDirectories(runsFolder: string): Promise<string[]> {
  const direct = await foldersOf(runsFolder);
  const cells = await Promise.all(
    [runsFolder, ...direct].map((folder) => foldersOf(path.join(folder, comparisonFiles.cells))),
  );
  const folders = [...direct, ...cells.flat()];
  const isReadable = await Promise.all(
    folders.map(
      async (folder) =>
        (await isRunFolder(folder)) &&
        readRun(folder).then(
          () => true,
          () => false,
        ),
    ),
  );
  return folders.filter((_, i) => isReadable[i]);
}

async function foldersOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => path.join(folder, name));
}
