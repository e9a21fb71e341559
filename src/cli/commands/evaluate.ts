import path from "node:path";
import type { Command } from "commander";
import { expertMapping } from "../../engine/compression/plan/expertMapping";
import { buildSequences } from "../../engine/data/buildSequences";
import { comparisonTable } from "../../engine/report/comparisonTable";
import { textRead } from "../../engine/data/sequences";
import { inEvaluationFolder } from "../../engine/run/folder/evaluationFolder";
import { whileUnchanged } from "../../engine/run/folder/inputWatch";
import { ModelCache } from "../../engine/run/modelCache";
import { progressMeter } from "../../engine/run/progressMeter";
import { readProvenance } from "../../engine/run/stages/outputs";
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
  run?: string;
}

const defaultSequences = 96;

/** `reroute evaluate <checkpoint>`: loss, perplexity and, with a teacher, KL and routing fidelity on a text. */
export function addEvaluate(program: Command, io: CliIo): void {
  const command = program
    .command("evaluate")
    .description("measure a checkpoint on held-out text, against its teacher if given")
    .argument("<checkpoint>", "checkpoint folder")
    .requiredOption("--data <file>", `text: ${dataHelp}`)
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
  const sequences = await buildSequences({
    path: calibration,
    column,
    ...models.textReaders(tokenizer ?? model.checkpoint.directory),
    onNote: (note) => progress.note(`warning: ${note}`),
    vocabSize: model.description.vocabSize,
    sequences: count,
    sequenceLength,
    packing,
    signal: io.signal,
  });
  const mapping = teacher && expertMapping(teacher.description, (await readProvenance(directory))?.plan ?? null);
  const { machinery } = await import("../../engine/pipeline");
  const folder =
    options.run === undefined ? defaultRunDirectory(io.cwd, "evaluate", recipe) : path.resolve(io.cwd, options.run);
  try {
    return await inEvaluationFolder(
      {
        directory: folder,
        inputs: {
          "the checkpoint": model.fingerprint,
          "the teacher": teacher?.fingerprint,
          "the plan in the checkpoint's reroute.json": mapping,
          "the text or the tokens taken from it": textRead(sequences),
        },
        machine: recipe,
        onWarning: (message) => progress.note(`warning: ${message}`),
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
            expertMapping: mapping,
            stateDirectory: folder,
            keepsState: true,
          }),
        ),
    );
  } finally {
    progress.end();
  }
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
  return `${evaluation.tokens} target tokens in ${evaluation.sequences} sequences\n\n${textTable(rows)}`;
}
