import type { Command } from "commander";
import { RerouteError } from "../../protocol/errors";
import type { DoctorCheck } from "../../engine/run/machine/doctor";
import { checkpointPath } from "../checkpointPath";
import { addQueueOptions, addressOf, givenQueue, type QueueOptions } from "../queueOptions";
import type { CliIo } from "../io";
import { safeText } from "../table";

interface DoctorCommandOptions extends QueueOptions {
  readAll?: boolean;
  json?: boolean;
}

/** `reroute doctor [checkpoint]`: whether this machine and a checkpoint are fit; what an issue report needs. */
export function addDoctor(program: Command, io: CliIo): void {
  const command = program
    .command("doctor")
    .description("check this machine, onnxruntime and a checkpoint; prints what an issue report needs")
    .argument("[checkpoint]", "checkpoint folder")
    .option("--read-all", "read every weight and look for NaN and infinity")
    .option("--json", "print the checks as JSON")
    .action(async (checkpoint: string | undefined, options: DoctorCommandOptions) => {
      const { readAll, json } = options;
      const { examine } = await import("../../engine/run/machine/doctor");
      const checks = await examine({
        workFolder: io.cwd,
        ...(checkpoint === undefined ? {} : { checkpoint: await checkpointPath(io, checkpoint) }),
        readAll: readAll ?? false,
        signal: io.signal,
      });
      if (givenQueue(options) !== null) checks.push(...(await queueChecks(options)));
      io.out(json ? `${JSON.stringify({ checks }, null, 2)}\n` : checks.map(line).join(""));
      const problem = checks.find(({ state }) => state === "problem");
      if (problem) throw new RerouteError(problem.code ?? "internal", `${problem.name}: ${problem.detail}`);
    });
  addQueueOptions(command);
}

async function queueChecks(options: QueueOptions): Promise<DoctorCheck[]> {
  const { examineQueue } = await import("../../engine/run/queue/examineQueue");
  const { measureNumerics } = await import("../../engine/execution/numerics");
  const { runtimeOptions } = await import("../../engine/run/machine/machine");
  const own = await measureNumerics(runtimeOptions({ provider: "cpu" }));
  return (await examineQueue(addressOf(options), own)).checks;
}

const marks = { ok: "ok     ", warning: "warning", problem: "PROBLEM" } as const;

function line({ name, state, detail }: DoctorCheck): string {
  return `${marks[state]}  ${name.padEnd(14)} ${safeText(detail)}\n`;
}
