import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Command } from "commander";
import { buildSequences } from "../../engine/data/buildSequences";
import type { ExpertProbe } from "../../engine/evaluation/expertProbe";
import { mostActiveExperts } from "../../engine/model/activeExperts";
import { moeLayers } from "../../engine/model/moeLayers";
import type { ModelDescription } from "../../engine/model/description";
import { requireExperts } from "../../engine/model/requireExperts";
import { runtimeOptions } from "../../engine/run/machine/machine";
import { ModelCache } from "../../engine/run/modelCache";
import { progressMeter } from "../../engine/run/progressMeter";
import { checkDenseStudent } from "../../engine/run/stages/calibrate";
import { formatPercent } from "../../protocol/quantities";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import { addDataOptions, addMachineOptions, dataHelp, recipeFrom, toInteger, type SharedOptions } from "../options";
import { progressPrinter } from "../progress";
import { textTable } from "../table";

interface ProbeExpertsOptions extends SharedOptions {
  data: string;
  student?: string;
  active?: number[];
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
    .option("--active <list>", "numbers of active experts (default: 1, 2, 4 and so on, all but one, all)", several);
  addMachineOptions(addDataOptions(command, usualSequences)).action(
    async (teacher: string, options: ProbeExpertsOptions) => {
      const probe = await measure(io, await checkpointPath(io, teacher), options);
      io.out(options.json ? `${JSON.stringify(probe, null, 2)}\n` : describe(probe));
    },
  );
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
  if (student) await checkDenseStudent(student, teacher);
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
    // Teacher, student and the number at hand are open at once.
    const each = { ...runtime, memoryBudgetBytes: Math.floor(runtime.memoryBudgetBytes / (student ? 3 : 2)) };
    const { probeExperts } = await import("../../engine/evaluation/expertProbe");
    return await probeExperts({
      ...{ teacher, student, sequences: read, active: options.active ?? usualNumbers(teacher.description) },
      ...{ runtime: each, scratchDirectory, signal: io.signal, report: progressMeter(progress.report) },
    });
  } finally {
    progress.end();
    await rm(scratchDirectory, { recursive: true, force: true });
  }
}

/** Powers of two, the family's own, all but one and all; its own alone where it takes no other. */
function usualNumbers(description: ModelDescription): number[] {
  const { moe } = moeLayers(description)[0]!;
  const own = moe.numExpertsPerToken;
  if (moe.routing.kind === "sparse-mixer") return [own];
  const most = mostActiveExperts(description)!;
  const powers = Array.from({ length: Math.ceil(Math.log2(most)) }, (_, i) => 2 ** i);
  return [...new Set([...powers, own, Math.max(1, most - 1), most])].sort((a, b) => a - b);
}

function describe({ sequences, tokens, ownActive, rows, gateMass, studentLoss }: ExpertProbe): string {
  const estimate = ({ mean, halfWidth95 }: (typeof rows)[number]["loss"]) =>
    `${mean.toFixed(4)} ± ${halfWidth95.toFixed(4)}`;
  const table = rows.map(({ active, loss, klToOwn, klOfStudent }) => [
    `${active}${active === ownActive ? " (own)" : ""}`,
    ...[loss, klToOwn, ...(klOfStudent ? [klOfStudent] : [])].map(estimate),
  ]);
  const head = [
    "Active experts",
    "Loss",
    "KL of own routing to it",
    ...(studentLoss ? ["KL of it to the student"] : []),
  ];
  const mass = gateMass.map(({ layer, activated }) => [String(layer), formatPercent(activated)]);
  const student = studentLoss ? `The student's loss: ${estimate(studentLoss)}\n` : "";
  return (
    `${tokens} target positions in ${sequences} sequences, nats a position\n\n${textTable([head, ...table])}${student}\n` +
    `Share of router probability on the experts that the teacher selects itself\n\n${textTable([["Layer", "Mass"], ...mass])}`
  );
}
