import path from "node:path";
import { Option, type Command } from "commander";
import { describeShare } from "../../engine/evaluation/verdict";
import { comparisonTable } from "../../engine/report/comparisonTable";
import { readEvaluation } from "../../engine/run/stages/evaluate";
import type { EvaluationFile, ModelEvaluation } from "../../protocol/evaluation";
import { activationTypes, type ActivationType } from "../../protocol/calibrateOptions";
import { runFiles } from "../../protocol/run";
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
import { addSpreadOptions, type SpreadOptions } from "../queueOptions";
import { runInFolder } from "../runInFolder";
import { textTable } from "../table";

interface EvaluateCommandOptions extends SharedOptions, SpreadOptions {
  data: string;
  teacher?: string;
  task?: string;
  activations?: ActivationType;
  speed?: true;
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
    .addOption(
      new Option(
        "--activations <type>",
        "measure with experts' activations rounded a token at a time, as servers with 8-bit activations compute",
      ).choices([...activationTypes]),
    )
    .option("--speed", "time one token and batches of 32, 128 and 512 on this machine, too")
    .option("--teacher <dir>", "the original checkpoint, for KL, agreement and routing fidelity")
    .option(
      "--run <dir>",
      "run folder with evaluation.json and report (default: one below .reroute/runs, found again by the same command)",
    );
  addSpreadOptions(addMachineOptions(addDataOptions(command, defaultSequences))).action(
    async (checkpoint: string, options: EvaluateCommandOptions) => {
      const file = await evaluate(io, await checkpointPath(io, checkpoint), options);
      const measured = (file.before ?? file.teacher)!;
      io.out(options.json ? `${JSON.stringify(measured, null, 2)}\n` : describe(file, measured));
    },
  );
}

/** A run with the one stage, whose evaluation.json stays in its folder. */
async function evaluate(io: CliIo, directory: string, options: EvaluateCommandOptions): Promise<EvaluationFile> {
  const resolve = (p: string): string => path.resolve(io.cwd, p);
  const { sequences = defaultSequences, force = false } = options;
  const text = resolve(options.data);
  const recipe = recipeFrom(
    io.cwd,
    { ...options, sequences },
    {
      ...(options.teacher === undefined
        ? { teacher: directory }
        : { teacher: await checkpointPath(io, options.teacher), student: directory }),
      evaluateOnly: true,
      calibration: text,
      evaluation: text,
      evaluationSequences: sequences,
      activations: options.activations,
      measureSpeed: options.speed,
      ...(options.task === undefined ? {} : { task: resolve(options.task) }),
      // An evaluation writes no checkpoint; the recipe's schema asks for a place all the same.
      output: directory,
    },
  );
  const runDirectory =
    options.run === undefined ? defaultRunDirectory(io.cwd, "evaluate", recipe) : resolve(options.run);
  await runInFolder(io, { runDirectory, recipe, baseFolder: io.cwd, force }, options);
  return (await readEvaluation(path.join(runDirectory, runFiles.evaluation)))!;
}

function describe(file: EvaluationFile, { tokens, sequences, trainedOn }: ModelEvaluation): string {
  const table = comparisonTable(file)!;
  const rows = table.rows.map(({ label, unit, cells }) => [unit === "" ? label : `${label} (${unit})`, ...cells]);
  const head = table.columns.length > 1 ? [["", ...table.columns]] : [];
  const share = trainedOn ? `\n${describeShare(trainedOn)}\n` : "";
  return `${tokens} target tokens in ${sequences} sequences\n\n${textTable([...head, ...rows])}${share}`;
}
