import { spawn } from "node:child_process";
import path from "node:path";
import type { Command } from "commander";
import { queueAddress, withoutPassword, type QueueAddress } from "../engine/run/queue/queueAddress";
import { appendLog, runPaths } from "../engine/run/folder/runFolder";
import { runtimeOptions } from "../engine/run/machine/machine";
import type { RunMachinery } from "../engine/run/startRun";
import { RerouteError } from "../protocol/errors";
import type { Recipe } from "../protocol/recipe";
import { toInteger } from "./options";

export interface QueueOptions {
  queue?: string;
  insecureQueue?: boolean;
}

export interface SpreadOptions extends QueueOptions {
  localWorkers?: number;
}

/** Variable that holds the queue's URL: a password in an argument could be read by everyone on the machine. */
const variable = "REROUTE_QUEUE";

export function addQueueOptions(command: Command): Command {
  return command
    .option("--queue <url>", `queue of the workers, redis://host:port; with a password in ${variable} instead`)
    .option("--insecure-queue", "speak to a redis:// queue on another machine without encryption");
}

/** The same for commands that spread their work. */
export function addSpreadOptions(command: Command): Command {
  return addQueueOptions(command).option(
    "--local-workers <n>",
    "workers started on this machine for as long as the command works (default: 1)",
    toInteger(0),
  );
}

/** @throws RerouteError arguments/invalid without a queue, and what queueAddress raises */
export function addressOf(options: QueueOptions): QueueAddress {
  const found = givenQueue(options);
  if (found !== null) return queueAddress(found, options.insecureQueue ?? false);
  throw new RerouteError("arguments/invalid", `No queue is named; give --queue redis://host:port, or set ${variable}`);
}

/** The queue's URL; null: none is used. @throws RerouteError arguments/invalid for a password among the arguments */
function givenQueue({ queue }: QueueOptions): string | null {
  if (queue === undefined) return process.env[variable] || null;
  if (withoutPassword(queue) === queue) return queue;
  throw new RerouteError(
    "arguments/invalid",
    `--queue ${withoutPassword(queue)} holds a password, which others on this machine can read; set ${variable} instead`,
  );
}

/** Does `work` with machinery whose heavy work workers do, where a queue is named; else with what was given. */
export async function spread<T>(
  options: SpreadOptions,
  run: {
    machinery: RunMachinery;
    recipe: Recipe;
    baseFolder: string;
    runDirectory: string;
    warn: (message: string) => void;
  },
  work: (machinery: RunMachinery) => Promise<T>,
): Promise<T> {
  const { machinery, recipe, baseFolder, runDirectory, warn } = run;
  if (givenQueue(options) === null) return work(machinery);
  const address = addressOf(options);
  const { measureNumerics } = await import("../engine/execution/numerics");
  const { openBullCarrier } = await import("../engine/run/queue/bullCarrier");
  const { distributedWork } = await import("../engine/run/tiles/distributedWork");
  const { prepareProvider } = await import("../engine/run/machine/providerChoice");
  await prepareProvider(recipe.provider);
  const runtime = runtimeOptions(recipe);
  const { hash, about, rowsAreIndependent } = await measureNumerics(runtime);
  if (!rowsAreIndependent)
    throw new RerouteError(
      "queue/unavailable",
      `Work cannot be spread from this machine: here a product's rows depend on the rows beside them (${about}), so that results would depend on who did what; run without --queue`,
    );
  const carrier = await openBullCarrier({ address, numerics: hash, onTrouble: warn });
  // What tiles name: checkpoints, and files of the run folder.
  const { teacher, source, student } = await runPaths(runDirectory, recipe, baseFolder);
  const folders = [path.resolve(runDirectory), teacher, source, student];
  const local = Array.from({ length: options.localWorkers ?? 1 }, (_, i) =>
    startWorker(options, { ...recipe, provider: runtime.provider }, `local-${process.pid}-${i + 1}`, folders),
  );
  try {
    const spreadWork = distributedWork(machinery.work, carrier, ({ kind, key }, { worker, seconds, tokens }) => {
      void appendLog(runDirectory, { level: "info", event: "tile", kind, tile: key, worker, seconds, tokens });
    });
    return await work({ ...machinery, work: spreadWork });
  } finally {
    for (const worker of local) worker.kill("SIGTERM");
    await carrier.close();
  }
}

/**
 * A worker of this program on this machine, with the run's own machine options, that touches these folders alone. The URL goes
 * by the environment.
 */
function startWorker(
  options: SpreadOptions,
  { memory, threads, provider }: Recipe,
  name: string,
  folders: readonly string[],
) {
  const args = [process.argv[1]!, "worker", "--end-with-parent", "--name", name, "--provider", provider];
  if (memory !== undefined) args.push("--memory", memory);
  if (threads !== undefined) args.push("--threads", String(threads));
  if (options.insecureQueue) args.push("--insecure-queue");
  for (const folder of new Set(folders)) args.push("--map", `${folder}=${folder}`);
  const env = { ...process.env, [variable]: givenQueue(options)! };
  const worker = spawn(process.execPath, args, { env, stdio: "ignore" });
  // It ends with this process at the latest.
  worker.unref();
  return worker;
}
