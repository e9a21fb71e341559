import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Option, type Command } from "commander";
import { sliceSequences } from "../../engine/data/sequences";
import { buildSequences } from "../../engine/data/buildSequences";
import {
  denseChoices,
  denseScales,
  type DenseChoice,
  type DenseScales,
} from "../../engine/distillation/build/chooseDense";
import { formatEstimate } from "../../engine/report/distillationTables";
import { requireExperts } from "../../engine/model/requireExperts";
import { newRun } from "../../engine/run/folder/runFolder";
import { runtimeOptions } from "../../engine/run/machine/machine";
import { requireChosenProvider } from "../../engine/run/machine/providerChoice";
import { ModelCache } from "../../engine/run/modelCache";
import type { HeavyWork } from "../../engine/run/work";
import { provenanceOf } from "../../engine/run/stages/outputs";
import type { Estimate } from "../../protocol/evaluation";
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
  heldOut: number;
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
    .option("--max-tokens <n>", "tokens that experts are measured on, at most", toInteger(1), 8192)
    .option("--held-out <n>", "sequences behind those, on which its KL to the teacher is measured", toInteger(0), 16);
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
      await requireChosenProvider(recipe.provider);
      const model = await models.model(recipe.teacher);
      requireExperts(model.description, "build a student of");
      const { column, tokenizer, sequences: count, sequenceLength, packing } = recipe.data;
      const progress = progressPrinter(io);
      const scratchDirectory = await mkdtemp(path.join(tmpdir(), "reroute-build-student-"));
      try {
        const sequences = await buildSequences({
          ...{ path: calibration, column, sequences: count + options.heldOut, sequenceLength, packing },
          ...models.textReaders(tokenizer ?? model.checkpoint.directory),
          onNote: (note) => progress.note(`warning: ${note}`),
          vocabSize: model.description.vocabSize,
          signal: io.signal,
        });
        const measured = sliceSequences(sequences, 0, Math.min(count, sequences.numSequences));
        const { buildDense } = await import("../../engine/distillation/build/buildDense");
        const built = await buildDense({
          ...{
            teacher: model,
            sequences: measured,
            directory,
            scratchDirectory,
            signal: io.signal,
            report: progress.report,
          },
          ...{ choose: options.choose, scales: options.scales, experts: options.experts ?? null },
          maxTokens: options.maxTokens,
          provenance: provenanceOf(newRun("build-student", recipe, io.cwd)),
          runtime: runtimeOptions(recipe),
        });
        const heldOut = sliceSequences(sequences, measured.numSequences, sequences.numSequences);
        if (heldOut.numSequences < options.heldOut)
          progress.note(`warning: the text has ${heldOut.numSequences} of ${options.heldOut} held-out sequences`);
        const quality =
          heldOut.numSequences === 0
            ? null
            : await measureQuality({
                ...{ teacher: model, model: await models.model(directory), sequences: heldOut, signal: io.signal },
                ...{ runtime: runtimeOptions(recipe), stateDirectory: scratchDirectory, report: progress.report },
              });
        io.out(options.json ? asJson(directory, built, quality) : asText(directory, built, quality));
      } finally {
        progress.end();
        await rm(scratchDirectory, { recursive: true, force: true });
      }
    },
  );
}

type Built = Awaited<ReturnType<typeof import("../../engine/distillation/build/buildDense").buildDense>>;

/** Of the student as it was built, on text that no expert was measured on; nats a token. */
interface Quality {
  sequences: number;
  klToTeacher: Estimate;
  nllPerToken: Estimate;
}

async function measureQuality(of: Omit<Parameters<HeavyWork["evaluate"]>[0], "expertMapping">): Promise<Quality> {
  const { liveWork } = await import("../../engine/run/liveWork");
  const { sequences, uncertainty } = await liveWork.evaluate({ ...of, expertMapping: null });
  return { sequences, klToTeacher: uncertainty.klToTeacher!, nllPerToken: uncertainty.nllPerToken };
}

function asJson(output: string, { layers, intermediateSize, bytes }: Built, heldOut: Quality | null): string {
  const rows = [...layers].map(([layer, plan]) => ({ layer, ...plan }));
  return `${JSON.stringify({ output, intermediateSize, bytes, layers: rows, heldOut }, null, 2)}\n`;
}

function asText(output: string, { layers, intermediateSize }: Built, quality: Quality | null): string {
  const rows = [...layers].map(([layer, { experts, scales, residual }]) => [
    ...[String(layer), experts.join(" "), scales.map((scale) => scale.toFixed(3)).join(" "), residual.toFixed(3)],
  ]);
  const table = textTable([["layer", "experts", "scales", "residual"], ...rows]);
  const before = quality
    ? `\nBefore training, on ${quality.sequences} held-out sequences: KL to the teacher ${formatEstimate(quality.klToTeacher)}, loss ${formatEstimate(quality.nllPerToken)} nats a token`
    : "";
  return `${table}\nFeed-forward parts of ${intermediateSize} units.${before}\nWritten     ${output}\n`;
}
