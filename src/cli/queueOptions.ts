import type { Command } from "commander";
import { queueAddress, withoutPassword, type QueueAddress } from "../engine/run/queue/queueAddress";
import type { RunMachinery } from "../engine/run/startRun";
import { RerouteError } from "../protocol/errors";
import type { Recipe } from "../protocol/recipe";
import type { QueueChoice } from "../protocol/workers";
import { toInteger, toNumber } from "./options";

export interface QueueOptions {
  queue?: string;
  insecureQueue?: boolean;
}

export interface SpreadOptions extends QueueOptions {
  localWorkers?: number;
  verify?: number;
  layerParts?: number;
}

/** Variable that holds the queue's URL: a password in an argument could be read by everyone on the machine. */
const variable = "REROUTE_QUEUE";

export function addQueueOptions(command: Command): Command {
  return command
    .option(
      "--queue <url>",
      `queue of the workers, redis://host:port or postgres://user@host:port/database; with a password in ${variable} instead`,
    )
    .option("--insecure-queue", "speak to a queue on another machine without encryption");
}

/** The same for commands that spread their work. */
export function addSpreadOptions(command: Command): Command {
  return addQueueOptions(command)
    .option(
      "--local-workers <n>",
      "workers started on this machine for as long as the command works (default: 1)",
      toInteger(0),
    )
    .option(
      "--layer-parts <n>",
      "parts that profile, teacher targets and evaluations are cut into by layers, for workers that keep to some (default: 1)",
      toInteger(1),
    )
    .option(
      "--verify <share>",
      "share of the tiles that another worker computes again, to compare their bytes, such as 0.01 (default: 0)",
      toNumber,
    );
}

/** @throws RerouteError arguments/invalid without a queue, and what queueAddress raises */
export function addressOf(options: QueueOptions): QueueAddress {
  const found = givenQueue(options);
  if (found !== null) return queueAddress(found, options.insecureQueue ?? false);
  throw new RerouteError(
    "arguments/invalid",
    `No queue is named; give --queue redis://host:port or postgres://user@host/database, or set ${variable}`,
  );
}

/** The queue's URL; null: none is used. @throws RerouteError arguments/invalid for a password among the arguments */
export function givenQueue({ queue }: QueueOptions): string | null {
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
    machine: Pick<Recipe, "memory" | "threads" | "provider">;
    directory: string;
    /** Checkpoints and folders that tiles name. */
    folders: () => Promise<readonly string[]>;
    warn: (message: string) => void;
  },
  work: (machinery: RunMachinery) => Promise<T>,
): Promise<T> {
  const { machinery, folders, ...rest } = run;
  const url = givenQueue(options);
  if (url === null) return work(machinery);
  addressOf(options);
  const { verify, layerParts } = options;
  if (layerParts !== undefined && layerParts > 1024)
    throw new RerouteError("arguments/invalid", `--layer-parts is ${layerParts}, expected 1 to 1024`);
  if (verify !== undefined && !(verify >= 0 && verify <= 1))
    throw new RerouteError("arguments/invalid", `--verify is ${verify}, expected a share from 0 to 1, such as 0.01`);
  const queue: QueueChoice = {
    ...{ url, insecure: options.insecureQueue ?? false },
    ...(options.localWorkers === undefined ? {} : { localWorkers: options.localWorkers }),
    ...(verify === undefined ? {} : { verify }),
    ...(layerParts === undefined ? {} : { layerParts }),
  };
  const { spreadRun } = await import("../engine/run/queue/spreadRun");
  return spreadRun(machinery, { ...rest, queue, program: process.argv[1]!, folders: await folders() }, work);
}
