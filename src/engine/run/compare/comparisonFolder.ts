import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import {
  comparisonFile,
  comparisonFiles,
  comparisonRecipeSchema,
  type ComparedCheckpoint,
  type ComparisonCell,
  type ComparisonFile,
  type ComparisonRecipe,
} from "../../../protocol/compare";
import { RerouteError } from "../../../protocol/errors";
import type { EvaluationFile, ModelEvaluation } from "../../../protocol/evaluation";
import { runFiles, type RunFile } from "../../../protocol/run";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { quote } from "../../checkpoint/quote";
import { lostToDropping } from "../../compression/merging/applyMerging";
import { isRunFolder, readRun, runPaths } from "../folder/runFolder";
import { readEvaluation } from "../stages/evaluate";
import { readProvenance } from "../stages/outputs";
import type { Cell } from "./cells";

/** A comparison file and comparison.json are some pages of JSON. */
const maxBytes = 16 * 2 ** 20;

/** @throws RerouteError recipe/invalid */
export async function readComparisonRecipe(file: string): Promise<ComparisonRecipe> {
  const invalid = (problem: string): RerouteError =>
    new RerouteError("recipe/invalid", `The comparison ${quote(file)} cannot be used: ${problem}`);
  const value = await readJson(file, invalid);
  const parsed = comparisonRecipeSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw invalid(`at ${issue.path.join(".") || "its top"}: ${issue.message}`);
}

/** comparison.json of a folder. @throws RerouteError run/invalid */
export async function readComparison(directory: string): Promise<ComparisonFile> {
  const invalid = (problem: string): RerouteError =>
    new RerouteError("run/invalid", `The comparison ${quote(directory)} cannot be read: ${problem}`);
  const parsed = comparisonFile.safeParse(await readJson(path.join(directory, comparisonFiles.comparison), invalid));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw invalid(
    `${comparisonFiles.comparison} does not follow its schema at ${issue.path.join(".")}: ${issue.message}`,
  );
}

export async function writeComparison(directory: string, comparison: ComparisonFile): Promise<void> {
  const file = path.join(directory, comparisonFiles.comparison);
  await writeFileAtomically(file, `${JSON.stringify(comparison, null, 2)}\n`);
}

/** Whether a cell's run was done when it was last worked on; its inputs may have changed since. */
export async function lastOutcome({ runDirectory }: Cell): Promise<{ state: "done" | "pending"; error: null }> {
  const run = await readRun(runDirectory).catch(() => null);
  const isDone = run?.stages.every(({ state }) => state === "done" || state === "skipped") ?? false;
  return { state: isDone ? "done" : "pending", error: null };
}

/** What the files of a cell's run say. Only a finished cell has numbers. */
export async function describeComparisonCell(
  { id, method, keep, pipeline, arm, runDirectory, recipe }: Cell,
  outcome: { state: ComparisonCell["state"]; error: ComparisonCell["error"] },
): Promise<{ cell: ComparisonCell; teacher: ComparedCheckpoint | null }> {
  const evaluation =
    outcome.state === "done" ? await readEvaluation(path.join(runDirectory, runFiles.evaluation)) : null;
  const run = (await isRunFolder(runDirectory)) ? await readRun(runDirectory).catch(() => null) : null;
  const comparison = evaluation?.comparison ?? null;
  const cell: ComparisonCell = {
    id,
    method,
    keep,
    ...(pipeline === undefined ? {} : { pipeline }),
    ...(arm === undefined ? {} : { arm, seed: recipe.seed }),
    ...outcome,
    before: compared(evaluation, "before"),
    after: compared(evaluation, "after"),
    verdict: comparison?.verdict ?? null,
    ...(comparison?.trainedOn === undefined ? {} : { trainedOn: comparison.trainedOn }),
    gain: comparison?.gain ?? null,
    gainInterval95: comparison?.gainInterval95 ?? null,
    recoveredShare: comparison?.recoveredShare ?? null,
    ...(await lostToDroppingOf(run, runDirectory)),
    seconds: (run?.stages ?? []).reduce((sum, stage) => sum + stage.seconds, 0),
  };
  return { cell, teacher: compared(evaluation, "teacher") };
}

/** The line of a merge that loses to its own simplest part, from what the compressed checkpoint says was measured. */
async function lostToDroppingOf(run: RunFile | null, runDirectory: string): Promise<{ lostToDropping?: string }> {
  if (run === null) return {};
  const { student } = await runPaths(runDirectory, run.recipe, run.baseFolder);
  const layers = new Map<string, Record<string, number>>();
  for (const [name, value] of Object.entries((await readProvenance(student))?.metrics ?? {})) {
    const [, layer, metric] = /^layer\.(\d+)\.(\w+)$/.exec(name) ?? [];
    if (layer !== undefined) layers.set(layer, { ...layers.get(layer), [metric!]: value });
  }
  const [line] = lostToDropping([...layers.values()].map((metrics) => ({ metrics })));
  return line === undefined ? {} : { lostToDropping: line };
}

function compared(evaluation: EvaluationFile | null, role: "teacher" | "before" | "after"): ComparedCheckpoint | null {
  const model: ModelEvaluation | null = evaluation?.[role] ?? null;
  if (!model) return null;
  const { cost, uncertainty } = model;
  return {
    parametersTotal: cost.parametersTotal,
    parametersActive: cost.parametersActive,
    bytes: cost.bytes,
    klToTeacher: uncertainty.klToTeacher,
    nllPerToken: uncertainty.nllPerToken,
    top1Agreement: model.top1Agreement,
    tokensPerSecond: cost.tokensPerSecond,
    peakMemoryBytes: cost.peakMemoryBytes,
  };
}

async function readJson(file: string, invalid: (problem: string) => RerouteError): Promise<unknown> {
  try {
    const { size } = await stat(file);
    if (size > maxBytes) throw invalid(`it has ${size} bytes, the limit is ${maxBytes}`);
    return JSON.parse(await readFile(file, "utf8")) as unknown;
  } catch (error) {
    if (error instanceof RerouteError) throw error;
    throw invalid(error instanceof Error ? error.message : String(error));
  }
}
