import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Command } from "commander";
import { buildSequences } from "../../engine/data/buildSequences";
import { probeBudgetOfEach } from "../../engine/evaluation/expertProbe";
import { distillationCsv, distillationTables } from "../../engine/report/distillationTables";
import { formatEstimate } from "../../engine/report/format";
import { updateDistillation } from "../../engine/run/folder/distillationFile";
import { writeFileAtomically } from "../../engine/checkpoint/atomicFile";
import { quote } from "../../engine/checkpoint/quote";
import { RerouteError } from "../../protocol/errors";
import { requireExperts } from "../../engine/model/requireExperts";
import { runtimeOptions } from "../../engine/run/machine/machine";
import { ModelCache } from "../../engine/run/modelCache";
import { progressMeter } from "../../engine/run/progressMeter";
import { checkTokenizers } from "../../engine/run/stages/calibrate";
import { distillationFiles, type DistillationFile, type ExpertProbe } from "../../protocol/distillation";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import { addDataOptions, addMachineOptions, dataHelp, recipeFrom, toInteger, type SharedOptions } from "../options";
import { progressPrinter } from "../progress";
import { textTable } from "../table";

interface ProbeExpertsOptions extends SharedOptions {
  data: string;
  student?: string;
  active?: number[];
  out?: string;
}

const usualSequences = 64;

/** `reroute probe-experts <teacher>`: what a teacher, and a student of it, are worth by the number of active experts. */
export function addProbeExperts(program: Command, io: CliIo): void {
  const several = (text: string) => text.split(",").map(toInteger(1));
  const command = program
    .command("probe-experts")
    .description("measure a teacher, and a student, by the teacher's number of active experts")
    .argument("<teacher>", "checkpoint folder")
    .requiredOption("--data <file>", `text: ${dataHelp}`)
    .option("--student <dir>", "a student, for its KL to the teacher under each number")
    .option("--active <list>", "numbers of active experts (default: 1, 2, 4 and so on, all but one, all)", several)
    .option("--out <dir>", "a folder for distillation.json and distillation.csv, which charts are drawn from");
  addMachineOptions(addDataOptions(command, usualSequences)).action(
    async (teacher: string, options: ProbeExpertsOptions) => {
      const out = options.out === undefined ? null : path.resolve(io.cwd, options.out);
      if (out !== null) await requireNone(out);
      const probe = await measure(io, await checkpointPath(io, teacher), options);
      const figures: DistillationFile = { schemaVersion: 1, probe, routerKl: null, arms: null };
      if (out !== null) {
        await updateDistillation(out, figures);
        await writeFileAtomically(path.join(out, distillationFiles.csv), distillationCsv(figures));
      }
      io.out(options.json ? `${JSON.stringify(probe, null, 2)}\n` : describe(probe, figures));
    },
  );
}

/** @throws RerouteError output/not-empty */
async function requireNone(folder: string): Promise<void> {
  for (const name of Object.values(distillationFiles))
    if (existsSync(path.join(folder, name)))
      throw new RerouteError("output/not-empty", `The folder ${quote(folder)} already has a ${name}; choose another`);
  await mkdir(folder, { recursive: true });
}

async function measure(io: CliIo, directory: string, options: ProbeExpertsOptions): Promise<ExpertProbe> {
  const calibration = path.resolve(io.cwd, options.data);
  const { data } = recipeFrom(
    io.cwd,
    { ...options, sequences: options.sequences ?? usualSequences },
    { teacher: directory, calibration, output: directory },
  );
  const models = new ModelCache();
  const teacher = await models.model(directory);
  requireExperts(teacher.description, "probe by number");
  const student = options.student === undefined ? null : await models.model(await checkpointPath(io, options.student));
  if (student) await checkTokenizers(student, teacher);
  const progress = progressPrinter(io);
  const scratchDirectory = await mkdtemp(path.join(tmpdir(), "reroute-probe-"));
  try {
    const { column, tokenizer, sequences, sequenceLength, packing } = data;
    const read = await buildSequences({
      ...{
        path: calibration,
        column,
        ...models.textReaders(tokenizer ?? directory),
        sequences,
        sequenceLength,
        packing,
      },
      ...{ onNote: (note) => progress.note(`warning: ${note}`), signal: io.signal },
      vocabSize: Math.min(teacher.description.vocabSize, student?.description.vocabSize ?? Infinity),
    });
    const runtime = runtimeOptions({ provider: "cpu", ...options });
    const { probeExperts } = await import("../../engine/evaluation/expertProbe");
    const memoryBudgetBytes = probeBudgetOfEach(runtime.memoryBudgetBytes, student !== null);
    return await probeExperts({
      ...{ teacher, student, sequences: read, active: options.active ?? [] },
      ...{
        runtime: { ...runtime, memoryBudgetBytes },
        scratchDirectory,
        signal: io.signal,
        report: progressMeter(progress.report),
      },
    });
  } finally {
    progress.end();
    await rm(scratchDirectory, { recursive: true, force: true });
  }
}

function describe({ sequences, tokens, studentLoss }: ExpertProbe, figures: DistillationFile): string {
  const tables = distillationTables(figures).map(
    ({ title, head, rows }) => `${title}\n\n${textTable([head, ...rows])}`,
  );
  const student = studentLoss ? ` The student's loss: ${formatEstimate(studentLoss)}.` : "";
  return `${tokens} target positions in ${sequences} sequences, nats a position.${student}\n\n${tables.join("\n")}`;
}
