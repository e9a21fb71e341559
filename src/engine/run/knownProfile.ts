/** A profile says the same of a text in every run: where one beside a run has made it, it is not made again. */
import { stat } from "node:fs/promises";
import path from "node:path";
import { comparisonFiles } from "../../protocol/compare";
import type { Recipe } from "../../protocol/recipe";
import type { RunFile } from "../../protocol/run";
import { quote } from "../checkpoint/quote";
import { planExecution } from "../execution/memoryPlan";
import type { ModelDescription } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import { linkFile } from "./folder/linkFile";
import { appendLog, readRun, runPaths, type RunPaths, runDirectories } from "./folder/runFolder";
import type { StageEstimate } from "./preflight/estimates";
import type { StageTable } from "./stages";
import type { Stage } from "./stages/stage";

/** A run whose profile is finished. */
interface Profiled {
  run: RunFile;
  paths: RunPaths;
}

/** The same stages; a profile that another run of the folder has made is taken from there, to the byte. */
export function reusingProfiles({ profile, ...stages }: StageTable): StageTable {
  const run: Stage["run"] = async (context) => {
    const { paths, runtime, models } = context;
    const { recipe, stages: records } = context.run;
    const inputHash = records.find(({ id }) => id === "profile")?.inputHash;
    const { description } = await models.model(paths.source);
    for (const known of await profiledBeside(paths.runDirectory)) {
      const isSame = known.run.stages.some((stage) => stage.id === "profile" && stage.inputHash === inputHash);
      if (!isSame || known.paths.teacher !== paths.source) continue;
      if (!isCutAlike(known.run, runtime, description, recipe.data.sequenceLength)) continue;
      if (!(await linkFile(known.paths.file("statistics"), paths.file("statistics")))) continue;
      await appendLog(paths.runDirectory, { level: "info", event: "profile reused", run: known.run.id });
      return;
    }
    await profile.run(context);
  };
  return { ...stages, profile: { ...profile, run } };
}

/**
 * The run that a recipe's profile would come from, by what recipes and files say without the text being read: the same teacher,
 * the same amount of the same text, unchanged since. The stage itself looks at the text's content.
 */
export async function expectedProfile(
  recipe: Recipe,
  paths: RunPaths,
  runtime: RuntimeOptions,
  description: ModelDescription,
): Promise<{ runDirectory: string; name: string } | null> {
  for (const { run, paths: known } of await profiledBeside(paths.runDirectory)) {
    const isSame = asked(run.recipe, known) === asked(recipe, paths);
    if (!isSame || !isCutAlike(run, runtime, description, recipe.data.sequenceLength)) continue;
    const finishedAt = run.stages.find(({ id }) => id === "profile")?.finishedAt ?? "";
    const changedAt = await stat(paths.calibrationData).catch(() => null);
    if (changedAt && changedAt.mtimeMs < Date.parse(finishedAt))
      return { runDirectory: known.runDirectory, name: run.name };
  }
  return null;
}

/** An estimate where the profile of another run, by its name, is taken over. */
export function withoutProfile(estimate: StageEstimate, name: string): StageEstimate {
  if (estimate.stage !== "profile") return estimate;
  const { spread: _, ...rest } = estimate;
  return { ...rest, seconds: 0, teacherSeconds: 0, assumption: `the profile of the run ${quote(name)} is reused` };
}

/** What decides about a profile, as recipes name it. */
function asked({ data, precision = "exact" }: Recipe, { source, calibrationData, tokenizer }: RunPaths): string {
  const { sequences, sequenceLength, packing, column } = data;
  return JSON.stringify([source, tokenizer, calibrationData, sequences, sequenceLength, packing, column, precision]);
}

/** Sums keep their last bits only where tokens are cut up alike, which threads, provider and memory decide. */
function isCutAlike(
  { runtime }: RunFile,
  own: RuntimeOptions,
  description: ModelDescription,
  sequenceLength: number,
): boolean {
  if (!runtime || runtime.threads !== own.threads || runtime.provider !== own.provider) return false;
  const cut = ({ memoryBudgetBytes }: { memoryBudgetBytes: number }) =>
    planExecution(description, sequenceLength, memoryBudgetBytes, "forward").chunkSequences;
  return cut(runtime) === cut(own);
}

/** Runs with a finished profile that lie beside a run, which may be a comparison's cell, newest first. */
async function profiledBeside(runDirectory: string): Promise<Profiled[]> {
  const folder = path.dirname(runDirectory);
  const runsFolder = path.basename(folder) === comparisonFiles.cells ? path.dirname(path.dirname(folder)) : folder;
  const others = (await runDirectories(runsFolder)).filter((directory) => directory !== runDirectory);
  const found: Profiled[] = [];
  for (const directory of others) {
    const run = await readRun(directory).catch(() => null);
    if (!run?.stages.some(({ id, state }) => id === "profile" && state === "done")) continue;
    found.push({ run, paths: await runPaths(directory, run.recipe, run.baseFolder) });
  }
  return found.sort((a, b) => (a.run.createdAt < b.run.createdAt ? 1 : -1));
}
