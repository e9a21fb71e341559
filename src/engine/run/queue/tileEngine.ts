import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { errorCodeOf } from "../../../protocol/errors";
import { measureNumerics, type Numerics } from "../../execution/numerics";
import type { RuntimeOptions } from "../../runtime/session";
import { TileRunner } from "../tiles/runTile";
import type { Tile, TileResult } from "../tiles/tile";
import { pathMap, type PathMapping } from "./pathMap";

/** What a worker and the process that computes for it tell each other, over the child's IPC channel. */
export type ToEngine =
  { kind: "start"; worker: string; runtime: RuntimeOptions; maps: PathMapping[] } | { kind: "tile"; tile: Tile };
export type FromEngine =
  | { kind: "ready"; numerics: Numerics }
  | { kind: "done"; result: TileResult }
  | { kind: "failed"; code: string; message: string };

/**
 * The process that computes tiles. It talks to no queue: computing blocks its thread for longer than a queue waits for a
 * sign of life. Signals are its parent's to act on (a job scheduler sends them to all processes of a job), and it ends with
 * its parent, between two chunks of a tile at the latest.
 */
export async function serveTiles(): Promise<void> {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    process.removeAllListeners(signal);
    process.on(signal, () => undefined);
  }
  const parent = process.ppid;
  const scratchDirectory = await mkdtemp(path.join(tmpdir(), "reroute-worker-"));
  // Read from the system: events of the channel are not seen while a graph runs.
  const endWithParent = () => {
    if (process.ppid !== parent) process.exit(0);
  };
  const send = (message: FromEngine) => process.send?.(message, undefined, undefined, () => undefined);
  let runner: TileRunner | null = null;
  const serve = async (message: ToEngine) => {
    try {
      if (message.kind === "start") {
        const { worker, runtime, maps } = message;
        const { signal } = new AbortController();
        const mapPath = pathMap(maps);
        runner = new TileRunner({ worker, runtime, scratchDirectory, signal, mapPath, onChunk: endWithParent });
        send({ kind: "ready", numerics: await measureNumerics(runtime) });
      } else send({ kind: "done", result: await runner!.run(message.tile) });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      send({ kind: "failed", code: errorCodeOf(error), message: reason });
    }
  };
  process.on("message", (message) => void serve(message as ToEngine));
  await new Promise<void>((resolve) => process.on("disconnect", resolve));
  await rm(scratchDirectory, { recursive: true, force: true });
  process.exit(0);
}
