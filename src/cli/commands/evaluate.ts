import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Command } from "commander";
import { expertMapping } from "../../engine/compression/plan/expertMapping";
import { buildSequences } from "../../engine/data/buildSequences";
import { loadTokenizer } from "../../engine/data/tokenizer";
import { comparisonTable } from "../../engine/report/comparisonTable";
import { runtimeOptions } from "../../engine/run/machine";
import { whileUnchanged } from "../../engine/run/inputWatch";
import { ModelCache } from "../../engine/run/modelCache";
import { progressMeter } from "../../engine/run/progressMeter";
import { readProvenance } from "../../engine/run/stages/calibrate";
import type { ModelEvaluation } from "../../protocol/evaluation";
import type { CliIo } from "../io";
import { addDataOptions, addMachineOptions, recipeFrom, type SharedOptions } from "../options";
import { progressPrinter } from "../progress";
import { textTable } from "../table";

interface EvaluateCommandOptions extends SharedOptions {
  data: string;
  teacher?: string;
}

const defaultSequences = 96;

/** `reroute evaluate <checkpoint>`: loss, perplexity and, with a teacher, KL and routing fidelity on a text. */
export function addEvaluate(program: Command, io: CliIo): void {
  const command = program
    .command("evaluate")
    .description("measure a checkpoint on held-out text, against its teacher if given")
    .argument("<checkpoint>", "checkpoint folder")
    .requiredOption("--data <file>", "text: .txt or .jsonl")
    .option("--teacher <dir>", "the original checkpoint, for KL, agreement and routing fidelity");
  addMachineOptions(addDataOptions(command, defaultSequences)).action(
    async (checkpoint: string, options: EvaluateCommandOptions) => {
      const evaluation = await evaluate(io, path.resolve(io.cwd, checkpoint), options);
      io.out(options.json ? `${JSON.stringify(evaluation, null, 2)}\n` : describe(evaluation));
    },
  );
}

async function evaluate(io: CliIo, directory: string, options: EvaluateCommandOptions): Promise<ModelEvaluation> {
  const recipe = recipeFrom(options, {
    teacher: directory,
    calibration: path.resolve(io.cwd, options.data),
    output: directory,
  });
  const models = new ModelCache();
  const model = await models.model(directory);
  const teacher = options.teacher === undefined ? null : await models.model(path.resolve(io.cwd, options.teacher));
  const { calibration, sequenceLength, packing } = recipe.data;
  const sequences = await buildSequences({
    path: calibration,
    tokenizer: await loadTokenizer(model.checkpoint.directory),
    vocabSize: model.description.vocabSize,
    sequences: options.sequences ?? defaultSequences,
    sequenceLength,
    packing,
    signal: io.signal,
  });
  const plan = (await readProvenance(directory))?.plan ?? null;
  const { machinery } = await import("../../engine/pipeline");
  const progress = progressPrinter(io);
  const scratch = await mkdtemp(path.join(tmpdir(), "reroute-evaluate-"));
  try {
    return await whileUnchanged(models, io.signal, (signal) =>
      machinery.work.evaluate({
        runtime: runtimeOptions(recipe),
        signal,
        report: progressMeter(progress.report),
        model,
        teacher,
        sequences,
        expertMapping: teacher && expertMapping(teacher.description, plan),
        stateDirectory: scratch,
      }),
    );
  } finally {
    progress.end();
    await rm(scratch, { recursive: true, force: true });
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
