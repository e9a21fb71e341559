import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Option, type Command } from "commander";
import { buildSequences } from "../../engine/data/buildSequences";
import {
  denseChoices,
  denseScales,
  type DenseChoice,
  type DenseScales,
} from "../../engine/distillation/build/chooseDense";
import { requireExperts } from "../../engine/model/requireExperts";
import { newRun } from "../../engine/run/folder/runFolder";
import { runtimeOptions } from "../../engine/run/machine/machine";
import { prepareProvider } from "../../engine/run/machine/providerChoice";
import { ModelCache } from "../../engine/run/modelCache";
import { provenanceOf } from "../../engine/run/stages/outputs";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import { addDataOptions, addMachineOptions, dataHelp, recipeFrom, toInteger, type SharedOptions } from "../options";
import { progressPrinter } from "../progress";
import { textTable } from "../table";

interface BuildStudentOptions extends SharedOptions {
  data: string;
  out: string;
  experts?: number;
  choose: DenseChoice;
  scales: DenseScales;
  maxTokens: number;
}

const defaultSequences = 64;

/** `reroute build-student <teacher>`: a dense checkpoint made of some of each layer's experts, to be distilled into. */
export function addBuildStudent(program: Command, io: CliIo): void {
  const command = program
    .command("build-student")
    .description("make a dense student of a teacher: some experts of each layer become one feed-forward part")
    .argument("<teacher>", "checkpoint folder")
    .requiredOption("--data <file>", `text that experts are measured on: ${dataHelp}`)
    .requiredOption("--out <dir>", "folder for the student; must not exist or be empty")
    .option("--experts <k>", "experts of each layer (default: as many as a token goes to)", toInteger(1))
    .addOption(new Option("--choose <how>", "which experts").choices([...denseChoices]).default("reap"))
    .addOption(
      new Option("--scales <how>", "what their outputs are multiplied by: fitted by least squares, or 1/k each")
        .choices([...denseScales])
        .default("fitted"),
    )
    .option("--max-tokens <n>", "tokens that experts are measured on, at most", toInteger(1), 8192);
  addMachineOptions(addDataOptions(command, defaultSequences)).action(
    async (teacher: string, options: BuildStudentOptions) => {
      const directory = path.resolve(io.cwd, options.out);
      const calibration = path.resolve(io.cwd, options.data);
      const recipe = recipeFrom(
        io.cwd,
        { ...options, sequences: options.sequences ?? defaultSequences },
        { teacher: await checkpointPath(io, teacher), calibration, output: directory },
      );
      const models = new ModelCache();
      await prepareProvider(recipe.provider);
      const model = await models.model(recipe.teacher);
      requireExperts(model.description, "build a student of");
      const { column, tokenizer, sequences: count, sequenceLength, packing } = recipe.data;
      const progress = progressPrinter(io);
      const scratchDirectory = await mkdtemp(path.join(tmpdir(), "reroute-build-student-"));
      try {
        const sequences = await buildSequences({
          ...{ path: calibration, column, sequences: count, sequenceLength, packing },
          ...models.textReaders(tokenizer ?? model.checkpoint.directory),
          onNote: (note) => progress.note(`warning: ${note}`),
          vocabSize: model.description.vocabSize,
          signal: io.signal,
        });
        const { buildDense } = await import("../../engine/distillation/build/buildDense");
        const built = await buildDense({
          ...{ teacher: model, sequences, directory, scratchDirectory, signal: io.signal, report: progress.report },
          ...{ choose: options.choose, scales: options.scales, experts: options.experts ?? null },
          maxTokens: options.maxTokens,
          provenance: provenanceOf(newRun("build-student", recipe, io.cwd)),
          runtime: runtimeOptions(recipe),
        });
        io.out(options.json ? asJson(directory, built) : asText(directory, built));
      } finally {
        progress.end();
        await rm(scratchDirectory, { recursive: true, force: true });
      }
    },
  );
}

type Built = Awaited<ReturnType<typeof import("../../engine/distillation/build/buildDense").buildDense>>;

function asJson(output: string, { layers, intermediateSize, bytes }: Built): string {
  const rows = [...layers].map(([layer, plan]) => ({ layer, ...plan }));
  return `${JSON.stringify({ output, intermediateSize, bytes, layers: rows }, null, 2)}\n`;
}

function asText(output: string, { layers, intermediateSize }: Built): string {
  const rows = [...layers].map(([layer, { experts, scales, residual }]) => [
    ...[String(layer), experts.join(" "), scales.map((scale) => scale.toFixed(3)).join(" "), residual.toFixed(3)],
  ]);
  const table = textTable([["layer", "experts", "scales", "residual"], ...rows]);
  return `${table}\nFeed-forward parts of ${intermediateSize} units. Written     ${output}\n`;
}
