import { Command, CommanderError } from "commander";
import { errorCodeOf, isCancelled, RerouteError, type ErrorCode } from "../protocol/errors";
import { shellWord } from "../protocol/shellWord";
import { engineVersion } from "../protocol/version";
import { addBuildStudent } from "./commands/buildStudent";
import { addCalibrate } from "./commands/calibrate";
import { addCompare } from "./commands/compare";
import { addCompress } from "./commands/compress";
import { addCompletion } from "./commands/completion";
import { addDoctor } from "./commands/doctor";
import { addEvaluate } from "./commands/evaluate";
import { addExport } from "./commands/export";
import { addFamilies } from "./commands/families";
import { addForward } from "./commands/forward";
import { addGenerate } from "./commands/generate";
import { addImportTrace } from "./commands/importTrace";
import { addInspect } from "./commands/inspect";
import { addMcp } from "./commands/mcp";
import { addProbeExperts } from "./commands/probeExperts";
import { addProfile } from "./commands/profile";
import { addRun } from "./commands/run";
import { addRuns } from "./commands/runs";
import { addScore } from "./commands/score";
import { addWorker } from "./commands/worker";
import type { CliIo } from "./io";

const exitCodes = { done: 0, bug: 1, input: 2, cancelled: 130 } as const;

/** Codes that say something about Reroute or onnxruntime, not about what the user gave. */
const defects = new Set<ErrorCode>(["internal", "engine/closed", "runtime/failed"]);

/** Runs one command line (without "node" and the script) and gives its exit code: 0 done, 2 the user's input, 130 cancelled, 1 a bug. */
export async function runCli(argv: readonly string[], io: CliIo): Promise<number> {
  try {
    await createProgram(io).parseAsync([...argv], { from: "user" });
    return exitCodes.done;
  } catch (error) {
    return report(error, io, argv);
  }
}

function createProgram(io: CliIo): Command {
  const program = new Command("reroute")
    .description("Inspect, compress and calibrate Mixture-of-Experts checkpoints")
    .version(engineVersion);
  for (const add of [
    addInspect,
    addDoctor,
    addProfile,
    addCompress,
    addBuildStudent,
    addCalibrate,
    addEvaluate,
    addRun,
    addRuns,
    addCompare,
    addExport,
    addWorker,
    addForward,
    addProbeExperts,
    addScore,
    addGenerate,
    addFamilies,
    addImportTrace,
    addMcp,
    addCompletion,
  ])
    add(program, io);
  for (const command of [program, ...program.commands]) {
    command
      .exitOverride()
      .configureOutput({ writeOut: io.out, writeErr: () => undefined })
      .showSuggestionAfterError();
  }
  return program;
}

function report(error: unknown, io: CliIo, argv: readonly string[]): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return exitCodes.done;
    const isHelp = error.code === "commander.help";
    const message = isHelp ? 'name a command; "reroute --help" lists them' : error.message.replace(/^error: /, "");
    io.err(`error arguments/invalid: ${message}${suggestion(message)}\n`);
    return exitCodes.input;
  }
  const code = errorCodeOf(error);
  if (isCancelled(error)) {
    const isResumable = resumed.has(argv[0] ?? "");
    io.err(
      isResumable
        ? `cancelled; continue with: reroute ${argv.map((word) => shellWord(word)).join(" ")}\n`
        : "cancelled\n",
    );
    return exitCodes.cancelled;
  }
  io.err(`error ${code}: ${error instanceof Error ? error.message : String(error)}\n`);
  if (!(error instanceof RerouteError) && error instanceof Error && error.stack !== undefined)
    io.err(`${error.stack}\n`);
  return defects.has(code) ? exitCodes.bug : exitCodes.input;
}

/** Commands that go on where they stopped when they are called again. */
const resumed = new Set(["run", "compare", "profile", "compress", "calibrate", "evaluate"]);

/** "(Did you mean reap?)" where one of an option's values is close to what was given. */
function suggestion(message: string): string {
  const [, given, allowed] = /argument '(.+)' is invalid\. Allowed choices are (.+)\.$/.exec(message) ?? [];
  if (given === undefined) return "";
  const near = allowed!
    .split(", ")
    .map((value) => ({ value, distance: editDistance(given.toLowerCase(), value) }))
    .filter(({ value, distance }) => distance <= Math.max(1, Math.floor(value.length / 3)))
    .sort((a, b) => a.distance - b.distance);
  return near[0] === undefined ? "" : ` (Did you mean ${near[0].value}?)`;
}

/** Insertions, deletions and changes of characters between two words (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + Number(a[i - 1] !== b[j - 1])));
    row = next;
  }
  return row[b.length]!;
}
