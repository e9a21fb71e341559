/** Workers as an array of Slurm's: two nodes that are both this machine, four workers, one of which is cancelled at its tile. */
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { readRunWorkers } from "../../src/engine/run/tiles/timelineFile";
import type { TileInHand } from "../../src/protocol/workers";
import { startCommand } from "../../src/extension/workers/startCommands";
import { childrenOf } from "../support/childrenOf";
import { hasRedis, RedisServer } from "../support/redisServer";
import { hasSlurm, SlurmCluster } from "../support/slurmCluster";
import { temporaryFolder } from "../support/temporaryFolder";
import { bundleCli, bundleQueueClients, TinyRun } from "./tinyRun";

const numWorkers = 4;
const extras = { hosts: [], image: "", claim: "" };

describe.skipIf(!hasSlurm || !hasRedis)("workers that Slurm starts", () => {
  it("do a run although one is cancelled at its tile; what comes out is what one process gives", async () => {
    const parent = temporaryFolder();
    await TinyRun.makeParent(parent);
    await bundleQueueClients();
    const run = new TinyRun(await bundleCli(), parent, {
      calibrate: { batch: 16, learningRate: 5e-3, heldOut: 0.2, evaluateEvery: 2 },
      data: {
        ...{ calibration: "../calibration.jsonl", evaluation: "../evaluation.jsonl" },
        ...{ sequences: 120, evaluationSequences: 6, sequenceLength: 24 },
      },
    });
    expect(await run.start()).toMatchObject({ code: 0 });
    const expected = run.results();
    run.reset();
    const [redis, cluster] = await Promise.all([RedisServer.start(), SlurmCluster.start()]);
    try {
      const script = startCommand(
        "slurm",
        {
          ...{ program: [process.execPath, run.cli], queue: redis.url, hasPassword: false, isInsecureAllowed: false },
          ...{ maps: [parent], workers: numWorkers, threads: 1, memoryGiB: 1 },
        },
        extras,
      );
      const job = cluster.submit(script);
      const logOf = (task: number) => cluster.log("jobs", `reroute-worker-${job}_${task}.log`);
      const nameOf = (task: number) => / (\S+) waits for tiles/.exec(logOf(task))?.[1];
      const all = Array.from({ length: numWorkers }, (_, i) => i + 1);
      while (!all.every((task) => nameOf(task))) await wait(50);
      expect(new Set(cluster.tasks(job).map(({ node }) => node))).toEqual(new Set(["n1", "n2"]));
      const cancelled = nameOf(1)!;
      // Its engine stands still, so that it is surely at a tile when it is told to end.
      const engine = childrenOf(Number(cancelled.split("-").at(-1)))[0]!;
      process.kill(engine, "SIGSTOP");
      const ended = run.start({ args: ["--queue", redis.url, "--local-workers", "0"] });
      let isOver = false;
      void ended.then(() => (isOver = true));
      // Whichever tile it is: a pass of few tiles ends no earlier than the one that it holds.
      let held: TileInHand | null = null;
      while (!isOver && (held = await tileOf(run, cancelled)) === null) await wait(20);
      cluster.cancel(`${job}_1`);
      const { code, stderr } = await ended;
      expect([code, stderr]).toEqual([0, expect.anything()]);
      expect(run.results()).toEqual(expected);
      expect(cluster.tasks(job).find(({ task }) => task === 1)?.state).toBe("CANCELLED");
      const { status, timeline } = (await readRunWorkers(run.runDirectory))!;
      const tiles = timeline.flatMap((line) => (line.kind === "tile" ? [line] : []));
      expect(tiles.some(({ worker }) => worker === cancelled)).toBe(false);
      const repeated = tiles.flatMap(({ repeated: again, pass, bounds }) => (again ? [{ pass, bounds }] : []));
      expect(repeated).toContainEqual(held);
      expect(status.workers.find(({ name }) => name === cancelled)).toMatchObject({ state: "left", tiles: 0 });
    } finally {
      await cluster.stop();
      await redis.kill();
    }
  });
});

async function tileOf({ runDirectory }: TinyRun, worker: string): Promise<TileInHand | null> {
  const workers = (await readRunWorkers(runDirectory))?.status.workers ?? [];
  return workers.find(({ name }) => name === worker)?.tile ?? null;
}
