import { spawn } from "node:child_process";
import { hostname } from "node:os";
import path from "node:path";
import { RerouteError } from "../../../protocol/errors";
import type { Recipe } from "../../../protocol/recipe";
import type { QueueChoice } from "../../../protocol/workers";
import { measureNumerics } from "../../execution/numerics";
import type { RuntimeOptions } from "../../runtime/session";
import { runtimeOptions } from "../machine/machine";
import { requireChosenProvider } from "../machine/providerChoice";
import type { RunMachinery } from "../runRequest";
import { distributedWork } from "../tiles/distributedWork";
import { TileWatch } from "../tiles/tileWatch";
import { verifying } from "../tiles/verifying";
import { openBullCarrier, within } from "./bullCarrier";
import { openNotes } from "./openNotes";
import { announceRun, notEligible, workersThere, type Presence } from "./presence";
import { queueAddress } from "./queueAddress";

/** Variable that holds the queue's URL: a password in an argument could be read by everyone on the machine. */
export const queueVariable = "REROUTE_QUEUE";

export interface SpreadRun {
  queue: QueueChoice;
  /** The command line's script, which workers on this machine run. */
  program: string;
  /** Machine options as the recipe gives them. */
  machine: Pick<Recipe, "memory" | "threads" | "provider">;
  /** Folder of the run or comparison, where status and timeline go. */
  directory: string;
  /** What tiles name: checkpoints and folders with tiles. Workers on this machine touch nothing else. */
  folders: readonly string[];
  warn: (message: string) => void;
}

/** Milliseconds between two looks at who is there. */
const lookEveryMs = 2000;

/**
 * Does `work` with machinery whose heavy work the workers of a queue do; ends workers that it started.
 * @throws RerouteError queue/unavailable, queue/insecure, and what the work raises
 */
export async function spreadRun<T>(
  machinery: RunMachinery,
  { queue, program, machine, directory, folders, warn }: SpreadRun,
  work: (machinery: RunMachinery) => Promise<T>,
): Promise<T> {
  const address = queueAddress(queue.url, queue.insecure ?? false);
  await requireChosenProvider(machine.provider);
  const runtime = runtimeOptions(machine);
  const { hash, about, rowsAreIndependent } = await measureNumerics(runtime);
  if (!rowsAreIndependent)
    throw new RerouteError(
      "queue/unavailable",
      `Work cannot be spread from this machine: here a product's rows depend on the rows beside them (${about}), so that results would depend on who did what; run without --queue`,
    );
  const carrier = await openBullCarrier({ address, numerics: hash, onTrouble: warn });
  const watch = await TileWatch.open({ directory, queue: address.shown, numerics: hash, about });
  const notes = await openNotes(address, () => undefined);
  const told = new Set<string>();
  const layerParts = queue.layerParts ?? 1;
  let looks = 0;
  let others: readonly string[] = [];
  const look = async () => {
    const name = `${hostname()}-${process.pid}`;
    await announceRun(notes, { name, numerics: hash, about, at: Date.now(), layerParts });
    const there = await workersThere(notes);
    const seen = there.map((worker) => ({ ...worker, ...eligibility(worker, hash) }));
    const missing = unserved(
      there.filter((worker) => notEligible(worker, hash) === null),
      layerParts,
    );
    if (missing !== null && looks++ > 10 && !told.has(missing)) {
      told.add(missing);
      warn(missing);
    }
    watch.see(seen);
    others = seen.flatMap(({ name, eligible }) => (eligible ? [name] : []));
    for (const { name, reason } of seen) {
      if (reason === null || told.has(name)) continue;
      told.add(name);
      warn(`the worker ${name} is not eligible: ${reason}`);
    }
  };
  // Workers that start now find the run.
  await within(15, look(), address.shown);
  const looking = setInterval(() => void look().catch(() => undefined), lookEveryMs);
  const local = Array.from({ length: queue.localWorkers ?? 1 }, (_, i) =>
    startWorker({ queue, program, machine, runtime, folders, name: `local-${process.pid}-${i + 1}` }),
  );
  const checking = verifying(carrier, queue.verify ?? 0, (than) => others.some((name) => name !== than));
  try {
    const spreadWork = distributedWork(machinery.work, checking, watch, directory, layerParts);
    return await work({
      ...machinery,
      work: spreadWork,
      numerics: { hash, about },
      worksElsewhere: local.length === 0,
    });
  } finally {
    for (const worker of local) worker.kill("SIGTERM");
    clearInterval(looking);
    notes.close();
    await carrier.close();
    await watch.close();
  }
}

/** What nobody who is there takes, where all keep to parts of the layers; null: nothing. */
function unserved(workers: readonly Pick<Presence, "layers">[], layerParts: number): string | null {
  if (workers.length === 0 || workers.some(({ layers }) => layers === undefined)) return null;
  const parts = Array.from({ length: layerParts }, (_, i) => `${i + 1}/${layerParts}`);
  const left = layerParts === 1 ? [] : parts.filter((part) => !workers.some(({ layers }) => layers === part));
  const all = [...left.map((part) => `layers ${part}`), "tiles of all layers"].join(", ");
  return `no worker takes ${all}; start some with --layers, or one without`;
}

function eligibility(worker: { numerics: string; about: string }, needed: string) {
  const reason = notEligible(worker, needed);
  return { numerics: worker.numerics.slice(0, 12), eligible: reason === null, reason };
}

/** A worker of this program on this machine, with the run's own machine options. The URL goes by the environment. */
function startWorker({
  queue,
  program,
  machine: { memory, threads },
  runtime,
  folders,
  name,
}: Pick<SpreadRun, "queue" | "program" | "machine" | "folders"> & { runtime: RuntimeOptions; name: string }) {
  const args = [program, "worker", "--end-with-parent", "--name", name, "--provider", runtime.provider];
  if (memory !== undefined) args.push("--memory", memory);
  if (threads !== undefined) args.push("--threads", String(threads));
  if (queue.insecure) args.push("--insecure-queue");
  for (const folder of new Set(folders.map((one) => path.resolve(one)))) args.push("--map", `${folder}=${folder}`);
  // Where the editor's own program is Node, it has to be told.
  const env = { ...process.env, [queueVariable]: queue.url, ELECTRON_RUN_AS_NODE: "1" };
  const worker = spawn(process.execPath, args, { env, stdio: "ignore" });
  // It ends with this process at the latest.
  worker.unref();
  return worker;
}
