import path from "node:path";
import type { Command } from "commander";
import { mappingOfMade } from "../../engine/compression/plan/expertMapping";
import { buildSequences } from "../../engine/data/buildSequences";
import { comparisonTable } from "../../engine/report/comparisonTable";
import { readChoiceItems } from "../../engine/data/choiceItems";
import { textRead } from "../../engine/data/sequences";
import { inEvaluationFolder } from "../../engine/run/folder/evaluationFolder";
import { whileUnchanged } from "../../engine/run/folder/inputWatch";
import { ModelCache } from "../../engine/run/modelCache";
import { progressMeter } from "../../engine/run/progressMeter";
import { readProvenance } from "../../engine/run/stages/outputs";
import { describeShare } from "../../engine/evaluation/verdict";
import { describeGone, describeTrainedOn, refusedAsTrainedOn, shareOf, trainedOnBy } from "../../engine/run/trainedOn";
import type { Recipe } from "../../protocol/recipe";
import type { ModelEvaluation } from "../../protocol/evaluation";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import {
  addDataOptions,
  addMachineOptions,
  dataHelp,
  defaultRunDirectory,
  recipeFrom,
  type SharedOptions,
} from "../options";
import { progressPrinter } from "../progress";
import { textTable } from "../table";

interface EvaluateCommandOptions extends SharedOptions {
  data: string;
  teacher?: string;
  task?: string;
  run?: string;
  force?: boolean;
}

const defaultSequences = 96;

/** `reroute evaluate <checkpoint>`: loss, perplexity and, with a teacher, KL and routing fidelity on a text. */
export function addEvaluate(program: Command, io: CliIo): void {
  const command = program
    .command("evaluate")
    .description("measure a checkpoint on held-out text, against its teacher if given")
    .argument("<checkpoint>", "checkpoint folder")
    .requiredOption("--data <file>", `text: ${dataHelp}`)
    .option("--force", "go on although the checkpoint was trained on this text; the result says so")
    .option(
      "--task <file>",
      "multiple-choice items (context, choices, gold), or samples of lm-evaluation-harness: accuracy, too",
    )
    .option("--teacher <dir>", "the original checkpoint, for KL, agreement and routing fidelity")
    .option(
      "--run <dir>",
      "folder that an interrupted evaluation goes on from (default: one below .reroute/runs, found again by the same command); gone when it is done",
    );
  addMachineOptions(addDataOptions(command, defaultSequences)).action(
    async (checkpoint: string, options: EvaluateCommandOptions) => {
      const evaluation = await evaluate(io, await checkpointPath(io, checkpoint), options);
      io.out(options.json ? `${JSON.stringify(evaluation, null, 2)}\n` : describe(evaluation));
    },
  );
}

async function evaluate(io: CliIo, directory: string, options: EvaluateCommandOptions): Promise<ModelEvaluation> {
  const resolve = (p: string): string => path.resolve(io.cwd, p);
  const recipe = recipeFrom(
    io.cwd,
    { ...options, sequences: options.sequences ?? defaultSequences },
    {
      ...(options.teacher === undefined
        ? { teacher: directory }
        : { teacher: await checkpointPath(io, options.teacher), student: directory }),
      calibration: resolve(options.data),
      output: directory,
    },
  );
  const { calibration, column, tokenizer, sequences: count, sequenceLength, packing } = recipe.data;
  const models = new ModelCache();
  const model = await models.model(directory);
  const teacher = options.teacher === undefined ? null : await models.model(recipe.teacher);
  const progress = progressPrinter(io);
  const warn = (message: string) => progress.note(`warning: ${message}`);
  const trainedOn = await trainedShare(directory, recipe, options.force ?? false, warn, io.signal);
  const sequences = await buildSequences({
    path: calibration,
    column,
    ...models.textReaders(tokenizer ?? model.checkpoint.directory),
    onNote: warn,
    vocabSize: model.description.vocabSize,
    sequences: count,
    sequenceLength,
    packing,
    signal: io.signal,
  });
  const task =
    options.task === undefined
      ? null
      : {
          path: resolve(options.task),
          items: await readChoiceItems(resolve(options.task)),
          tokenizer: await models.tokenizer(tokenizer ?? model.checkpoint.directory),
        };
  const mapping = teacher && mappingOfMade(teacher.description, await readProvenance(directory));
  const { machinery } = await import("../../engine/pipeline");
  const folder =
    options.run === undefined ? defaultRunDirectory(io.cwd, "evaluate", recipe) : path.resolve(io.cwd, options.run);
  try {
    const evaluation = await inEvaluationFolder(
      {
        directory: folder,
        inputs: {
          "the checkpoint": model.fingerprint,
          "the teacher": teacher?.fingerprint,
          "the plan in the checkpoint's reroute.json": mapping,
          ...(task ? { "the task": task.items } : {}),
          "the text or the tokens taken from it": textRead(sequences),
        },
        machine: recipe,
        onWarning: warn,
      },
      (runtime) =>
        whileUnchanged(models, io.signal, (signal) =>
          machinery.work.evaluate({
            runtime,
            signal,
            report: progressMeter(progress.report),
            model,
            teacher,
            sequences,
            ...(task ? { task } : {}),
            expertMapping: mapping,
            stateDirectory: folder,
            keepsState: true,
          }),
        ),
    );
    return trainedOn > 0 ? { ...evaluation, trainedOn } : evaluation;
  } finally {
    progress.end();
  }
}

/**
 * Share of the text that the checkpoint says it was trained on.
 * @throws RerouteError data/trained-on where there is any and it is not forced
 */
async function trainedShare(
  directory: string,
  { data }: Recipe,
  force: boolean,
  warn: (message: string) => void,
  signal: AbortSignal,
): Promise<number> {
  const { calibration: path, column, sequences, sequenceLength, packing } = data;
  const results = await trainedOnBy(directory, { path, column, sequences, sequenceLength, packing }, signal);
  for (const { training, found } of results) {
    const message = found && describeTrainedOn(path, training, found);
    if (found === null) warn(describeGone(training));
    if (message === null) continue;
    if (!force) throw refusedAsTrainedOn(message);
    warn(message);
  }
  return shareOf(results);
}

function describe(evaluation: ModelEvaluation): string {
  const table = comparisonTable({
    schemaVersion: 1,
    data: { path: "", sha256: "", sequences: evaluation.sequences, sequenceLength: 0 },
    teacher: null,
    before: evaluation,
    after: null,
    comparison: null,
  })!;
  const rows = table.rows.map(({ label, unit, cells }) => [unit === "" ? label : `${label} (${unit})`, ...cells]);
  const { trainedOn } = evaluation;
  const share = trainedOn ? `\n${describeShare(trainedOn)}\n` : "";
  return `${evaluation.tokens} target tokens in ${evaluation.sequences} sequences\n\n${textTable(rows)}${share}`;
}
