import { fork, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { wholeTile } from "../../src/engine/run/tiles/carrier";
import { keyed, tileSchema } from "../../src/engine/run/tiles/tile";
import { TileStore } from "../../src/engine/run/tiles/tileStore";
import { TileWatch } from "../../src/engine/run/tiles/tileWatch";
import { inHand } from "../../src/engine/run/tiles/tileBounds";
import { openBullCarrier } from "../../src/engine/run/queue/bullCarrier";
import { bullAt } from "../../src/engine/run/queue/bull";
import { announce, queueName, workersThere } from "../../src/engine/run/queue/presence";
import { openNotes } from "../../src/engine/run/queue/openNotes";
import { queueAddress } from "../../src/engine/run/queue/queueAddress";

/** Workers, tiles of each, and seconds that a tile takes: as short as tiles of Router KD at a large model are. */
const [numWorkers, tilesEach, tileSeconds] = [300, 6, 10];
const numerics = "5".repeat(64);

/**
 * `npm run bench fake-workers`: what a coordinator takes beside 300 workers that only wait and write a small file. It queues,
 * is told of results, checks their hashes, looks at who is there every two seconds, and writes status and timeline.
 */
export async function fakeWorkersBench(print: (line: string) => void): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "reroute-fake-workers-"));
  const port = 20_000 + (process.pid % 20_000);
  const url = `redis://127.0.0.1:${port}`;
  const redis = spawn("redis-server", [
    "--bind",
    "127.0.0.1",
    "--port",
    String(port),
    "--save",
    "",
    "--dir",
    directory,
  ]);
  for await (const line of redis.stdout.iterator({ destroyOnReturn: false }))
    if (String(line).includes("Ready to accept connections")) break;
  redis.stdout.resume();
  const address = queueAddress(url, false);
  const crowd = fork(process.argv[1]!, ["fake-workers", url], { stdio: "inherit" });
  const store = new TileStore(directory);
  const watch = new TileWatch({ directory, queue: address.shown, numerics, about: "fake" });
  const carrier = await openBullCarrier({ address, numerics, onTrouble: print });
  const notes = await openNotes(address, print);
  const looking = setInterval(() => {
    workersThere(notes)
      .then((there) => watch.see(there.map((worker) => ({ ...worker, eligible: true, reason: null }))))
      .catch(() => undefined);
  }, 2000);
  try {
    while ((await workersThere(notes)).length < numWorkers) await wait(200);
    const { signal } = new AbortController();
    const text = { name: "text-1.safetensors", sha256: numerics };
    const tiles = Array.from({ length: numWorkers * tilesEach }, (_, i) =>
      keyed({
        ...{ kind: "profile", folder: directory, numerics, text, model: { path: "/teacher", fingerprint: "f" } },
        ...{ from: i, to: i + 1, renormalises: true },
      }),
    );
    const [cpu, started] = [process.cpuUsage(), performance.now()];
    await Promise.all(tiles.map((tile) => wholeTile(tile, store, carrier, signal, watch)));
    const { user, system } = process.cpuUsage(cpu);
    const seconds = (performance.now() - started) / 1e3;
    const used = (user + system) / 1e6;
    const share = ((100 * used) / seconds).toFixed(1);
    print(
      `${numWorkers} workers, ${tiles.length} tiles of ${tileSeconds} s: coordinator ${used.toFixed(2)} s of processor time in ${seconds.toFixed(1)} s, ${share} % of a core, ${((used / tiles.length) * 1e3).toFixed(1)} ms a tile`,
    );
  } finally {
    clearInterval(looking);
    crowd.kill("SIGKILL");
    notes.close();
    await carrier.close();
    await watch.close();
    redis.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The 300, in a process of their own. */
export async function serveFakeWorkers(url: string): Promise<void> {
  const address = queueAddress(url, false);
  const bull = await bullAt(address, () => undefined);
  const notes = await openNotes(address, () => undefined);
  const crowd = Array.from({ length: numWorkers }, (_, i) => ({
    ...{ name: `node${String(i).padStart(3, "0")}`, host: `node${i}`, threads: 16, memoryBytes: 6.4e10, numerics },
    ...{ about: "fake", tile: null as ReturnType<typeof inHand> | null, since: new Date().toISOString() },
    ...{ beat: 0, tiles: 0, tokensPerSecond: null },
  }));
  const say = (one: (typeof crowd)[number]) => announce(notes, { ...one, beat: ++one.beat });
  for (const one of crowd) await say(one);
  setInterval(() => crowd.forEach((one) => void say(one)), 15_000);
  const free = [...crowd];
  bull.worker(
    queueName(numerics),
    async ({ data }) => {
      const tile = tileSchema.parse(data);
      const one = free.pop()!;
      one.tile = inHand(tile);
      await say(one);
      await wait(tileSeconds * 1000);
      const bytes = Buffer.from(tile.key);
      const store = new TileStore(tile.folder);
      writeFileSync(store.file(tile.key), bytes);
      one.tile = null;
      one.tiles++;
      free.push(one);
      await say(one);
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      const result = {
        ...{ key: tile.key, bytes: bytes.length, sha256, worker: one.name, seconds: tileSeconds, tokens: 512 },
        ...{ processorMs: 1, attempts: 1 },
      };
      await store.record(result);
      return result;
    },
    { concurrency: numWorkers },
  );
}
