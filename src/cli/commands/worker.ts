import { hostname } from "node:os";
import { Option, type Command } from "commander";
import { RerouteError } from "../../protocol/errors";
import { executionProviders } from "../../protocol/recipe";
import type { CliIo } from "../io";
import { addRuntimeOptions, toInteger } from "../options";
import { addQueueOptions, addressOf, type QueueOptions } from "../queueOptions";

interface WorkerOptions extends QueueOptions {
  name?: string;
  memory?: string;
  threads?: number;
  provider?: (typeof executionProviders)[number];
  map?: string[];
  idleExit?: string;
  layers?: string;
  lock?: number;
  endWithParent?: boolean;
}

/** `reroute worker`: computes parts of runs that others coordinate, until it is stopped. */
export function addWorker(program: Command, io: CliIo): void {
  const command = program.command("worker").description("compute parts of runs from a queue, until it is stopped");
  addRuntimeOptions(addQueueOptions(command))
    .option("--name <text>", "name in logs and lists (default: host and process)")
    .option(
      "--map <from=to>",
      "where a folder of the coordinator lies here, repeatable; no other is touched (needed unless the queue is local)",
      (text: string, before: string[] | undefined) => [...(before ?? []), text],
    )
    .option("--idle-exit <time>", "end after so long without work, such as 15m (default: never)")
    .option("--layers <part>", "keep to one part of a run's --layer-parts, such as 2/8 (default: take what there is)")
    .option("--lock <seconds>", "after so long without a sign of life its work goes to another", toInteger(2), 60)
    .addOption(new Option("--end-with-parent", "end when the process that started it is gone").hideHelp())
    .action(async (options: WorkerOptions) => {
      const { serveQueue } = await import("../../engine/run/queue/bullWorker");
      const { mappingsFor } = await import("../../engine/run/queue/pathMap");
      const { parseLayersServed } = await import("../../engine/run/queue/presence");
      const { runtimeOptions } = await import("../../engine/run/machine/machine");
      const { memory, threads, provider = "cpu" } = options;
      const name = options.name ?? `${hostname()}-${process.pid}`;
      const machine = { provider, ...(memory === undefined ? {} : { memory }), ...(threads ? { threads } : {}) };
      const address = addressOf(options);
      await serveQueue({
        ...{ address, name, runtime: runtimeOptions(machine) },
        maps: mappingsFor(address, options.map ?? []),
        engine: { script: process.argv[1]!, args: ["tile-engine"] },
        idleExitSeconds: options.idleExit === undefined ? null : secondsOf(options.idleExit),
        lockSeconds: options.lock ?? 60,
        ...(options.layers === undefined ? {} : { layers: parseLayersServed(options.layers) }),
        signal: options.endWithParent ? AbortSignal.any([io.signal, parentGone()]) : io.signal,
        log: (message) => io.err(`${new Date().toISOString()} ${message}\n`),
      });
    });
  program.command("tile-engine", { hidden: true }).action(async () => {
    const { serveTiles } = await import("../../engine/run/queue/tileEngine");
    await serveTiles();
  });
}

/** Aborted once another process is this one's parent. */
function parentGone(): AbortSignal {
  const controller = new AbortController();
  const parent = process.ppid;
  setInterval(() => process.ppid !== parent && controller.abort(), 1000).unref();
  return controller.signal;
}

const units: Record<string, number> = { s: 1, m: 60, h: 3600 };

/** Seconds of "90s", "15m" or "2h". @throws RerouteError arguments/invalid */
function secondsOf(text: string): number {
  const [, number, unit = "s"] = /^(\d+)([smh]?)$/.exec(text) ?? [];
  if (number !== undefined) return Number(number) * units[unit || "s"]!;
  throw new RerouteError(
    "arguments/invalid",
    `--idle-exit is ${JSON.stringify(text)}; give a time such as 90s, 15m or 2h`,
  );
}
