import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import type { Command } from "commander";
import { quote } from "../../engine/checkpoint/quote";
import { readReportData, type ReportData } from "../../engine/report/reportData";
import { formatBytes, formatCount, formatDuration, formatPercent } from "../../protocol/quantities";
import { stageColumns, stageRows } from "../../engine/report/stageTable";
import { preflight } from "../../engine/run/preflight/preflight";
import { isRunFolder, readRun } from "../../engine/run/folder/runFolder";
import { RerouteError } from "../../protocol/errors";
import { layerAdvice } from "../../protocol/layerAdvice";
import { paradigmOf } from "../../protocol/methods";
import { recipeSchema, type CompressOptions, type Recipe } from "../../protocol/recipe";
import { runFiles, type Preflight, type TextPreview } from "../../protocol/run";
import { spreadLimits, spreadSeconds, workersWorthTrying } from "../../protocol/spreadTimes";
import type { CliIo } from "../io";
import { toInteger } from "../options";
import { addressOf, addSpreadOptions, givenQueue, type SpreadOptions } from "../queueOptions";
import { runInFolder } from "../runInFolder";
import { textTable } from "../table";

interface RunOptions extends SpreadOptions {
  run?: string;
  output?: string;
  dryRun?: boolean;
  force?: boolean;
  multipleOf?: number;
  json?: boolean;
}

/** A recipe is a page of JSON. */
const maxRecipeBytes = 2 ** 20;

/** `reroute run <recipe>`: everything a recipe says, from where its run folder stands. */
export function addRun(program: Command, io: CliIo): void {
  const command = program
    .command("run")
    .description("run a recipe: profile, compress, calibrate, evaluate, report; continues where it stopped")
    .argument("<recipe>", "recipe file (*.reroute.json), or a run folder, whose recipe it is then")
    .option(
      "--run <dir>",
      "run folder (default: .reroute/runs/<recipe name> beside the recipe, or the one that was named)",
    )
    .option("--output <dir>", "folder for the resulting checkpoint (default: the recipe's)")
    .option("--dry-run", "print sizes, disk, memory, time and refusals, and do nothing")
    .option("--force", "go on although the teacher is not the student's origin, or the evaluation text was trained on")
    .option(
      "--multiple-of <n>",
      "in place of the recipe's multipleOf: rounds the experts kept in each layer",
      toInteger(1),
    )
    .option("--json", "print the result as JSON")
    .action(async (file: string, options: RunOptions) => {
      const named = await recipeOf(path.resolve(io.cwd, file));
      const { baseFolder } = named;
      const runDirectory = options.run === undefined ? named.runDirectory : path.resolve(io.cwd, options.run);
      const output = options.output === undefined ? {} : { output: path.resolve(io.cwd, options.output) };
      const recipe: Recipe = { ...rounding(named.recipe, options.multipleOf), ...output };
      const request = { runDirectory, recipe, baseFolder, force: options.force ?? false };
      if (options.dryRun) await dryRun(io, request, options);
      else {
        await runInFolder(io, request, options);
        const data = await readReportData(runDirectory);
        io.out(options.json ? jsonResult(data) : describe(data));
      }
    });
  addSpreadOptions(command);
}

/** @throws RerouteError arguments/invalid where the recipe keeps no experts of a teacher's */
function rounding(recipe: Recipe, multipleOf: number | undefined): Recipe {
  if (multipleOf === undefined) return recipe;
  if (recipe.steps) {
    const rounded = (compress: CompressOptions | undefined) =>
      compress && ["pruning", "merging"].includes(paradigmOf(compress.method)) ? { ...compress, multipleOf } : compress;
    return { ...recipe, steps: recipe.steps.map((step) => ({ ...step, compress: rounded(step.compress) })) };
  }
  if (recipe.compress === undefined || recipe.student !== undefined)
    throw new RerouteError("arguments/invalid", "The recipe compresses nothing, so --multiple-of has nothing to round");
  return { ...recipe, compress: { ...recipe.compress, multipleOf } };
}

/** A recipe file's recipe and where it is run, or those of a run folder. */
async function recipeOf(file: string): Promise<{ recipe: Recipe; baseFolder: string; runDirectory: string }> {
  if (await isRunFolder(file)) {
    const { recipe, baseFolder } = await readRun(file);
    return { recipe, baseFolder, runDirectory: file };
  }
  const baseFolder = path.dirname(file);
  const name = path.basename(file).replace(/(\.reroute)?\.json$/, "");
  return { recipe: await readRecipe(file), baseFolder, runDirectory: path.join(baseFolder, ".reroute", "runs", name) };
}

/** @throws RerouteError recipe/invalid */
export async function readRecipe(file: string): Promise<Recipe> {
  const invalid = (problem: string): RerouteError =>
    new RerouteError("recipe/invalid", `The recipe ${quote(file)} cannot be used: ${problem}`);
  let value: unknown;
  try {
    const { size } = await stat(file);
    if (size > maxRecipeBytes) throw invalid(`it has ${size} bytes, the limit is ${maxRecipeBytes}`);
    value = JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    if (error instanceof RerouteError) throw error;
    throw invalid(error instanceof Error ? error.message : String(error));
  }
  const parsed = recipeSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw invalid(`at ${issue.path.join(".") || "its top"}: ${issue.message}`);
}

async function dryRun(
  io: CliIo,
  request: { runDirectory: string; recipe: Recipe; baseFolder: string; force: boolean },
  options: RunOptions,
): Promise<void> {
  const { runDirectory, recipe, baseFolder, force } = request;
  const { machinery } = await import("../../engine/pipeline");
  const { probeWith } = await import("../../engine/run/startRun");
  const run = (await isRunFolder(runDirectory)) ? await readRun(runDirectory) : undefined;
  const result = await preflight(recipe, baseFolder, {
    runDirectory,
    ...(run ? { run } : {}),
    probe: probeWith(machinery, { recipe }, { signal: io.signal }),
    force,
    showsText: true,
    signal: io.signal,
  });
  const spread =
    givenQueue(options) === null
      ? []
      : [...describeSpread(result), ...(await describeWorkers(result, recipe, options))];
  io.out(options.json ? `${JSON.stringify(result, null, 2)}\n` : describePreflight(result) + spread.join(""));
  const first = result.refusals[0];
  if (first) throw new RerouteError(first.code as RerouteError["code"], first.message);
}

/** What the run would take with more machines like this one, and what holds it up then. */
function describeSpread({ stages }: Preflight): string[] {
  const times = workersWorthTrying(stages).map((n) => `  ${n}: ${formatDuration(spreadSeconds(stages, n))}`);
  const limits = spreadLimits(stages).map(
    ({ stage, limit, share }) => `  ${stage} ${formatPercent(share)}: ${limit}\n`,
  );
  return [`Workers like this machine, at best\n${times.join("\n")}\nWhat more do not shorten\n`, ...limits];
}

/** Who is at the queue, and whether the work should be cut by layers for them. */
async function describeWorkers(result: Preflight, recipe: Recipe, options: SpreadOptions): Promise<string[]> {
  const { examineQueue } = await import("../../engine/run/queue/examineQueue");
  const { measureNumerics } = await import("../../engine/execution/numerics");
  const { runtimeOptions } = await import("../../engine/run/machine/machine");
  const { localWorkers = 1, layerParts } = options;
  const { workers, checks } = await examineQueue(addressOf(options), await measureNumerics(runtimeOptions(recipe)));
  const problem = checks.find(({ state }) => state === "problem");
  if (problem) return [`warning: ${problem.detail}\n`];
  const eligible = workers.filter((worker) => worker.eligible);
  const own = Array.from({ length: localWorkers }, () => ({ memoryBytes: result.memoryBudgetBytes }));
  const advice = layerAdvice(result, [...eligible, ...own], layerParts);
  const there = `Workers       ${eligible.length} eligible of ${workers.length}, and ${localWorkers} started here\n`;
  if (advice === null) return [there];
  const { neededBytes, memoryBytes, readBytesPerSecond, parts } = advice;
  const needed = `a worker needs ${formatBytes(neededBytes)} to keep the checkpoint at hand, the smallest has ${formatBytes(memoryBytes)}`;
  return [
    there,
    `warning: ${needed}: each would read ${formatBytes(readBytesPerSecond)} a second from storage; with --layer-parts ${parts} each reads its layers once\n`,
  ];
}

function describePreflight(p: Preflight): string {
  const left = p.steps?.map(({ name, ...of }, i) => ({ name: `${i + 1} ${name}`, ...of })) ?? [
    { name: "after", parameters: p.parametersAfter, bytes: p.bytesAfter },
  ];
  const sizes = [
    ["", "before", ...left.map(({ name }) => name)],
    ["Parameters", formatCount(p.parametersBefore), ...left.map(({ parameters }) => formatCount(parameters))],
    ["Size", formatBytes(p.bytesBefore), ...left.map(({ bytes }) => formatBytes(bytes))],
  ];
  const machine = [
    `Disk needed   ${formatBytes(p.diskNeededBytes)} of ${formatBytes(p.diskFreeBytes)} free`,
    `Peak memory   ${formatBytes(p.peakMemoryBytes)} with a budget of ${formatBytes(p.memoryBudgetBytes)}`,
    ...(p.provider === undefined ? [] : [`Provider      ${p.provider}`]),
    `Time          ${formatDuration(p.seconds)}`,
  ];
  const stages = p.stages.map(
    ({ stage, step, seconds, peakMemoryBytes, assumption }) =>
      `  ${(step === undefined ? "" : `${step} `) + stage.padEnd(10)} ${formatDuration(seconds).padStart(12)}  ${formatBytes(peakMemoryBytes).padStart(9)}  ${assumption}`,
  );
  const trained = p.trained
    ? [
        `Trains        ${formatCount(p.trained.parameters)} numbers (scope ${p.trained.scope}) of`,
        ...p.trained.tensors.map((name) => `  ${name}`),
      ]
    : [];
  const texts = (p.texts ?? []).flatMap(describeText);
  const warnings = p.warnings.map((warning) => `warning: ${warning}`);
  const refusals = p.refusals.map(({ code, message }) => `would be refused: ${code}: ${message}`);
  return `${textTable(sizes)}\n${[...machine, ...stages, ...trained, ...texts, ...warnings, ...refusals].join("\n")}\n`;
}

/** The first sequences of a text, for people. */
export function describeText({ role, path: file, wanted, sequences, notes }: TextPreview): string[] {
  const name = role === "calibration" ? "Calibration" : "Evaluation";
  return [
    `${name} text, the first ${sequences.length} of ${wanted} sequences of ${file}:`,
    ...sequences.flatMap(({ text, tokens, special, padding, domains }) => [
      `  ${tokens} tokens count, ${special} of them special; ${padding} of padding do not (${domains.join(", ")})`,
      `    ${JSON.stringify(text)}`,
    ]),
    ...notes.map((note) => `warning: ${note}`),
  ];
}

function jsonResult({ run, evaluation, runDirectory, plan }: ReportData): string {
  const { stages } = run;
  const result = {
    runDirectory,
    report: path.join(runDirectory, runFiles.report),
    stages,
    preflight: run.preflight,
    evaluation,
    notes: plan?.notes ?? [],
  };
  return `${JSON.stringify(result, null, 2)}\n`;
}

function describe({ table, verdict, run, runDirectory }: ReportData): string {
  const rows = table
    ? [
        ["", ...table.columns],
        ...table.rows.map(({ label, unit, cells }) => [unit === "" ? label : `${label} (${unit})`, ...cells]),
      ]
    : [];
  const seconds = run.stages.reduce((sum, stage) => sum + stage.seconds, 0);
  const stages = textTable([stageColumns, ...stageRows(run)]);
  return `${textTable(rows)}\n${verdict}\n\n${stages}\nTime    ${formatDuration(seconds)}\nReport  ${path.join(runDirectory, runFiles.report)}\n`;
}
