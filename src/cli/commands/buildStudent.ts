import path from "node:path";
import { Option, type Command } from "commander";
import { denseChoices, denseScales, type DenseChoice, type DenseScales } from "../../protocol/denseStudent";
import { buildStudent, usualStudent, type StudentQuality } from "../../engine/run/buildStudent";
import { formatEstimate } from "../../engine/report/format";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import { addDataOptions, addMachineOptions, dataHelp, recipeFrom, toInteger, type SharedOptions } from "../options";
import { progressPrinter } from "../progress";
import { textTable } from "../table";

type Built = Omit<Awaited<ReturnType<typeof buildStudent>>, "quality">;

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
    .addOption(
      new Option("--choose <how>", "which experts").choices([...denseChoices]).default(usualStudent.build.choose),
    )
    .addOption(
      new Option("--scales <how>", "what their outputs are multiplied by: fitted by least squares, or 1/k each")
        .choices([...denseScales])
        .default(usualStudent.build.scales),
    )
    .option(
      "--max-tokens <n>",
      "tokens that experts are measured on, at most",
      toInteger(1),
      usualStudent.build.maxTokens,
    )
    .option(
      "--held-out <n>",
      "sequences behind those, on which its KL to the teacher is measured",
      toInteger(0),
      usualStudent.heldOut,
    );
  addMachineOptions(addDataOptions(command, defaultSequences)).action(
    async (teacher: string, options: BuildStudentOptions) => {
      const directory = path.resolve(io.cwd, options.out);
      const calibration = path.resolve(io.cwd, options.data);
      const recipe = recipeFrom(
        io.cwd,
        { ...options, sequences: options.sequences ?? defaultSequences },
        { teacher: await checkpointPath(io, teacher), calibration, output: directory },
      );
      const progress = progressPrinter(io);
      try {
        const { choose, scales, maxTokens, heldOut, experts } = options;
        const build = { choose, scales, maxTokens, ...(experts === undefined ? {} : { experts }) };
        const { quality, ...built } = await buildStudent(
          recipe,
          io.cwd,
          { build, heldOut },
          {
            ...{ signal: io.signal, report: progress.report },
            onNote: (note) => progress.note(`warning: ${note}`),
          },
        );
        io.out(options.json ? asJson(directory, built, quality) : asText(directory, built, quality));
      } finally {
        progress.end();
      }
    },
  );
}

function asJson(output: string, { layers, intermediateSize, bytes }: Built, heldOut: StudentQuality | null): string {
  const rows = [...layers].map(([layer, plan]) => ({ layer, ...plan }));
  return `${JSON.stringify({ output, intermediateSize, bytes, layers: rows, heldOut }, null, 2)}\n`;
}

function asText(output: string, { layers, intermediateSize }: Built, quality: StudentQuality | null): string {
  const rows = [...layers].map(([layer, { experts, scales, residual }]) => [
    ...[String(layer), experts.join(" "), scales.map((scale) => scale.toFixed(3)).join(" "), residual.toFixed(3)],
  ]);
  const table = textTable([["layer", "experts", "scales", "residual"], ...rows]);
  const before = quality
    ? `\nBefore training, on ${quality.sequences} held-out sequences: KL to the teacher ${formatEstimate(quality.klToTeacher)}, loss ${formatEstimate(quality.nllPerToken)} nats a token`
    : "";
  return `${table}\nFeed-forward parts of ${intermediateSize} units.${before}\nWritten     ${output}\n`;
}
