import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Option, type Command } from "commander";
import { aimerScores } from "../../engine/compression/pruning/aimer";
import {
  applyPlan,
  checkMethodOptions,
  compressionMetrics,
  makePlan,
  planNeedsText,
  type MethodContext,
} from "../../engine/compression/methods";
import { searchesBudgets } from "../../engine/compression/budgets/expertCounts";
import { isPruningCriterion } from "../../engine/compression/pruning/criteria";
import { makePruningPlan } from "../../engine/compression/pruning/pruningPlan";
import { parsePlan } from "../../engine/compression/plan/validatePlan";
import { completeOutput } from "../../engine/checkpoint/outputFolder";
import { checkWritten } from "../../engine/compression/quantising/readBack";
import { writeCompressedCheckpoint } from "../../engine/compression/writeCompressed";
import { formatBytes, formatCount } from "../../protocol/quantities";
import { requireExperts } from "../../engine/model/requireExperts";
import { runtimeOptions } from "../../engine/run/machine/machine";
import { requireChosenProvider } from "../../engine/run/machine/providerChoice";
import { placementNotes } from "../../engine/run/preflight/routingWarnings";
import { quantisedOutput } from "../../engine/run/preflight/quantisedOutput";
import { openModel } from "../../engine/run/modelCache";
import { checkpointSize } from "../../engine/compression/plannedSize";
import { needsText } from "../../engine/compression/methodNeeds";
import { readPlanText } from "../../engine/run/stages/compress";
import { provenanceOf, readProvenance } from "../../engine/run/stages/outputs";
import { newRun } from "../../engine/run/folder/runFolder";
import { RerouteError } from "../../protocol/errors";
import type { CompressionPlan } from "../../protocol/plan";
import { compressionMethods } from "../../protocol/methods";
import type { Recipe } from "../../protocol/recipe";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import {
  addDataOptions,
  addMachineOptions,
  dataHelp,
  defaultRunDirectory,
  recipeFrom,
  toInteger,
  toMethodOption,
  toNumber,
  type SharedOptions,
} from "../options";
import { progressPrinter } from "../progress";
import { runInFolder } from "../runInFolder";

interface CompressCommandOptions extends SharedOptions {
  method?: string;
  force?: boolean;
  keep?: number;
  multipleOf?: number;
  out: string;
  data?: string;
  plan?: string;
  run?: string;
  set?: Record<string, string | number | boolean>;
  protectSuperExperts?: string;
  reapWeights?: string;
  groupLimits?: string;
}

/** `reroute compress <checkpoint>`: drops, merges or shrinks experts and writes the compressed checkpoint. */
export function addCompress(program: Command, io: CliIo): void {
  const command = program
    .command("compress")
    .description("drop, merge or shrink experts and write the compressed checkpoint")
    .argument("<checkpoint>", "checkpoint folder")
    .addOption(new Option("--method <id>", "how experts are chosen (default: reap)").choices([...compressionMethods]))
    .option(
      "--keep <share or count>",
      "experts kept in each layer: a share up to 1, or a count (default: 0.625)",
      toNumber,
    )
    .option(
      "--multiple-of <n>",
      "round the experts kept in each layer to the nearest multiple, as servers can place them (default: no rounding)",
      toInteger(1),
    )
    .requiredOption("--out <dir>", "folder for the compressed checkpoint; must not exist or be empty")
    .option("--data <file>", `calibration text, for methods that look at activations: ${dataHelp}`)
    .option("--plan <file>", "apply this compression plan instead of making one")
    .option("--force", "write what a loader would read wrongly without a message")
    .option("--run <dir>", "run folder (default: one below .reroute/runs, found again by the same command)")
    .addOption(
      new Option("--protect-super-experts <where>", "never drop experts with extreme activations").choices([
        "off",
        "early-layers",
        "all-layers",
      ]),
    )
    .option(
      "--set <name=value>",
      "an option of the method, such as router=map or merge=average; may be given several times",
      toMethodOption,
    )
    .addOption(new Option("--reap-weights <kind>", "routing weights in REAP scores").choices(["model", "softmax"]))
    .addOption(
      new Option("--group-limits <what>", "models that route within groups of experts (default: keep)").choices([
        "keep",
        "drop",
      ]),
    );
  addMachineOptions(addDataOptions(command, 3000)).action(
    async (checkpoint: string, options: CompressCommandOptions) => {
      const teacher = await checkpointPath(io, checkpoint);
      const output = path.resolve(io.cwd, options.out);
      const { method, keep, multipleOf, protectSuperExperts, reapWeights, groupLimits } = options;
      const plan = options.plan === undefined ? undefined : path.resolve(io.cwd, options.plan);
      const recipe = recipeFrom(io.cwd, options, {
        teacher,
        calibration: path.resolve(io.cwd, options.data ?? "no text needed"),
        output,
        compress: {
          method,
          keep,
          multipleOf,
          plan,
          protectSuperExperts,
          reapWeights,
          groupLimits,
          options: options.set,
        },
      });
      const needs =
        plan === undefined
          ? needsText(recipe.compress!)
          : planNeedsText(parsePlan(await readPlanText(plan), JSON.stringify(plan), recipe.compress!));
      // Methods that can do without text still measure with it what they change.
      const measures = plan === undefined && !isPruningCriterion(recipe.compress!.method);
      const usesText = needs || (measures && options.data !== undefined);
      if (usesText && options.data === undefined) {
        const { method: chosen, options: set } = recipe.compress!;
        throw new RerouteError(
          "arguments/invalid",
          isPruningCriterion(chosen) && searchesBudgets(set)
            ? "The budget evoesap runs calibration text through the model; give --data FILE, or use --set budget=uniform"
            : `The method ${chosen} needs calibration text to see how experts are used; give --data FILE, or use --method aimer, random, svd or mobe`,
        );
      }
      let notes: readonly string[] = [];
      if (usesText) {
        const runDirectory =
          options.run === undefined
            ? defaultRunDirectory(io.cwd, "compress", recipe)
            : path.resolve(io.cwd, options.run);
        await runInFolder(io, { runDirectory, recipe, baseFolder: io.cwd, force: options.force ?? false });
      } else notes = await compressWithoutText(io, teacher, output, recipe, options.force ?? false);
      await printResult(io, { teacher, output, json: options.json ?? false, notes });
    },
  );
}

/** Methods that need no text, and plans, are done in one go: there is nothing to resume but copying. */
async function compressWithoutText(
  io: CliIo,
  teacher: string,
  output: string,
  recipe: Recipe,
  force: boolean,
): Promise<readonly string[]> {
  const progress = progressPrinter(io);
  const stateDirectory = await mkdtemp(path.join(tmpdir(), "reroute-compress-"));
  try {
    await requireChosenProvider(recipe.provider);
    const model = await openModel(teacher);
    requireExperts(model.description, "compress");
    const context: MethodContext = {
      ...model,
      options: recipe.compress!,
      seed: recipe.seed,
      statistics: null,
      sequences: null,
      runtime: runtimeOptions(recipe),
      stateDirectory,
      signal: io.signal,
      report: progress.report,
    };
    const isPlanned = recipe.compress!.plan === undefined;
    if (isPlanned) checkMethodOptions(recipe.compress!);
    const plan = await planWithoutText(io, context, recipe, progress.report);
    const placement = isPlanned ? placementNotes(recipe.compress!, model.description) : [];
    for (const note of placement) progress.note(`warning: ${note}`);
    quantisedOutput(recipe.compress!, plan, model.description, force);
    const layers = await applyPlan(context, plan);
    for (const note of plan.notes ?? []) progress.note(`note: ${note}`);
    const trainedOn = (await readProvenance(teacher))?.trainedOn;
    await writeCompressedCheckpoint({
      ...model,
      plan,
      ...(layers === null ? {} : { layers }),
      directory: output,
      provenance: {
        ...{ ...provenanceOf(newRun("compress", recipe, io.cwd)), metrics: compressionMetrics(layers) },
        ...(trainedOn ? { trainedOn } : {}),
      },
      leaveMarker: true,
      signal: io.signal,
      report: progress.report,
    });
    if (plan.paradigm === "quantisation") await checkWritten(context, plan, layers!, output);
    await completeOutput(output);
    return plan.notes ?? [];
  } finally {
    progress.end();
    await rm(stateDirectory, { recursive: true, force: true });
  }
}

async function planWithoutText(
  io: CliIo,
  model: MethodContext,
  recipe: Recipe,
  report: ReturnType<typeof progressPrinter>["report"],
): Promise<CompressionPlan> {
  const options = recipe.compress!;
  if (options.plan !== undefined) {
    return parsePlan(await readPlanText(options.plan), JSON.stringify(options.plan), options);
  }
  if (!isPruningCriterion(options.method)) return makePlan(model);
  const weightScores =
    options.method === "aimer"
      ? await aimerScores(model.checkpoint, model.description, { signal: io.signal, report })
      : null;
  return makePruningPlan({ ...model, options, seed: recipe.seed, statistics: null, weightScores });
}

async function printResult(
  io: CliIo,
  { teacher, output, json, notes }: { teacher: string; output: string; json: boolean; notes: readonly string[] },
): Promise<void> {
  const before = checkpointSize((await openModel(teacher)).checkpoint);
  const after = checkpointSize((await openModel(output)).checkpoint);
  if (json) {
    const result = {
      output,
      parametersBefore: before.parameters,
      parametersAfter: after.parameters,
      bytesBefore: before.bytes,
      bytesAfter: after.bytes,
      notes,
    };
    io.out(`${JSON.stringify(result, null, 2)}\n`);
  } else {
    io.out(
      `Parameters ${formatCount(before.parameters)} -> ${formatCount(after.parameters)}\n` +
        `Size       ${formatBytes(before.bytes)} -> ${formatBytes(after.bytes)}\n` +
        `Written    ${output}\n`,
    );
  }
}
