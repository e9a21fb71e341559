import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, test } from "vitest";
import { openNotes } from "../../src/engine/run/queue/openNotes";
import { workersThere } from "../../src/engine/run/queue/presence";
import { queueAddress } from "../../src/engine/run/queue/queueAddress";
import { readRunWorkers } from "../../src/engine/run/tiles/timelineFile";
import { createRandom } from "../../src/engine/tensor/random";
import { childrenOf } from "../support/childrenOf";
import { isNightly } from "../support/nightly";
import { hasPostgres, PostgresServer } from "../support/postgresServer";
import { freePort, hasRedis, RedisServer } from "../support/redisServer";
import { temporaryFolder } from "../support/temporaryFolder";
import { bundleCli, bundleQueueClients, TinyRun } from "./tinyRun";

/** Three leaves to profile, and three updates of at most 16 tiles. */
const recipe = {
  data: {
    ...{ calibration: "../calibration.jsonl", evaluation: "../evaluation.jsonl" },
    ...{ sequences: 700, evaluationSequences: 6, sequenceLength: 24 },
  },
  compress: { method: "reap", keep: 0.5 },
  calibrate: { batch: 256, learningRate: 5e-3, heldOut: 0.1, evaluateEvery: 2 },
};

describe.skipIf(!hasRedis)("a run whose work is spread", () => {
  let run: TinyRun;
  let clients: string;
  let expected: Record<string, string>;
  let redis: RedisServer;
  const workers = new Set<ChildProcess>();

  beforeAll(async () => {
    const parent = temporaryFolder();
    await TinyRun.makeParent(parent);
    clients = await bundleQueueClients();
    run = new TinyRun(await bundleCli(), parent, recipe);
    const alone = run.start({ preload: recorder(), env: { LOADED: loadedBy("alone") } });
    const [{ code, stderr }, server] = await Promise.all([alone, RedisServer.start()]);
    expect([code, stderr]).toEqual([0, expect.anything()]);
    expected = run.results();
    run.reset();
    redis = server;
  });
  afterEach(() => {
    for (const worker of workers) worker.kill("SIGKILL");
    workers.clear();
    run.reset();
  });
  afterAll(async () => {
    await redis?.kill();
  });

  /** Where a process of this kind writes which modules it has loaded, by a script that goes before it. */
  const loadedBy = (how: string) => path.join(run.parent, `loaded-${how}.txt`);
  const recorder = () => {
    const file = path.join(run.parent, "recorder.cjs");
    writeFileSync(
      file,
      `process.on("exit", () => require("node:fs").writeFileSync(process.env.LOADED, Object.keys(require.cache).join("\\n")));\n`,
    );
    return file;
  };

  function startWorker(...more: string[]): ChildProcess {
    const args = [
      run.cli,
      "worker",
      "--queue",
      redis.url,
      "--threads",
      "1",
      "--memory",
      "1GiB",
      "--lock",
      "2",
      ...more,
    ];
    const worker = spawn(process.execPath, args, { stdio: "ignore" });
    workers.add(worker);
    return worker;
  }

  const coordinate = (localWorkers: number) =>
    run.start({
      args: ["--queue", redis.url, "--local-workers", String(localWorkers)],
      ...{ preload: recorder(), env: { LOADED: loadedBy("spread") } },
    });

  /** Tiles that the run's log knows. */
  const tilesDone = () => {
    const file = path.join(run.runDirectory, "workers.jsonl");
    const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
    return lines
      .filter((line) => line.includes('"kind":"tile"'))
      .map((line) => JSON.parse(line) as { worker: string; pass: string });
  };

  /** Does each act once as many tiles are done. */
  function atTiles(acts: readonly [number, () => void][]): () => void {
    const left = [...acts].sort(([a], [b]) => a - b);
    const timer = setInterval(() => {
      while (left.length > 0 && tilesDone().length >= left[0]![0]) left.shift()![1]();
    }, 10);
    return () => clearInterval(timer);
  }

  test("is the only one that loads the queue's clients", () => {
    // A script of BullMQ's that every bundle with it holds.
    const holds = (file: string) => readFileSync(file, "utf8").includes("moveToActive-");
    expect([run.cli, clients].map(holds)).toEqual([false, true]);
  });

  test.each(isNightly ? [1, 2, 4] : [2])("among %i workers has the bytes of one without a queue", async (count) => {
    expect(await coordinate(count)).toMatchObject({ code: 0 });
    expect(run.results()).toEqual(expected);
    // Nothing of the queue's clients in a process without a queue.
    const isOfQueue = (file: string) => file === clients || /node_modules.(bullmq|ioredis|pg)\b/.test(file);
    const loaded = ["alone", "spread"].map((how) => readFileSync(loadedBy(how), "utf8").split("\n"));
    expect(loaded.map((files) => files.includes(run.cli))).toEqual([true, true]);
    expect(loaded.map((files) => files.some(isOfQueue))).toEqual([false, true]);
    const tiles = tilesDone();
    expect(tiles.filter(({ pass }) => pass === "profile").length).toBe(3);
    expect(tiles.filter(({ pass }) => pass === "gradient").length).toBeGreaterThan(2 * 16);
    // What the page shows as done is what the timeline holds.
    const { status, timeline } = (await readRunWorkers(run.runDirectory))!;
    const names = new Set(timeline.flatMap((line) => (line.kind === "tile" ? [line.tile] : [])));
    expect(status.passes.reduce((sum, { done }) => sum + done, 0)).toBe(names.size);
    expect(new Set(tiles.map(({ worker }) => worker)).size).toBeLessThanOrEqual(count);
  });

  test("has them although workers, their engines, the queue and the coordinator are killed", async () => {
    const random = createRandom(isNightly ? Date.now() : 7);
    for (let i = 0; i < 2; i++) startWorker();
    const [first] = [...workers];
    const moments = [1, 2, 3, 4].map((part) => (part - 1) * 12 + 1 + random.below(10));
    let coordinator = 0;
    const stop = atTiles([
      [
        moments[0]!,
        () => {
          first!.kill("SIGKILL");
          startWorker();
        },
      ],
      [moments[1]!, () => childrenOf([...workers].at(-1)!.pid!).forEach((pid) => process.kill(pid, "SIGKILL"))],
      [moments[2]!, () => void redis.kill().then(() => redis.restart())],
      [moments[3]!, () => process.kill(coordinator, "SIGKILL")],
    ]);
    try {
      const args = ["--queue", redis.url, "--local-workers", "0"];
      const killed = await run.start({ args, onStart: (pid) => (coordinator = pid) });
      expect(killed.signal).toBe("SIGKILL");
      expect(await run.start({ args })).toMatchObject({ code: 0 });
    } finally {
      stop();
    }
    expect(run.results()).toEqual(expected);
  });

  test("goes around a worker whose arithmetic differs, which is named, and one whose disk is full, which ends", async () => {
    const command = `exec "${process.execPath}" "${run.cli}" worker --threads 1 --memory 1GiB --lock 2`;
    const start = (before: string, name: string, env = {}) => {
      const worker = spawn("bash", ["-c", `${before}${command} --name ${name}`], {
        env: { ...process.env, REROUTE_QUEUE: redis.url, ...env },
        stdio: "ignore",
      });
      workers.add(worker);
      return worker;
    };
    start("", "differs", { REROUTE_ONNXRUNTIME_PATH: otherRuntime() });
    const full = start("ulimit -f 1; ", "full");
    const ended = new Promise<number | null>((resolve) => full.on("exit", resolve));
    await untilThere(["differs", "full"]);
    startWorker("--name", "good");
    const { code, stderr } = await coordinate(0);
    expect([code, stderr]).toEqual([0, expect.stringMatching(/worker differs is not eligible: .*9\.9\.9/)]);
    expect(run.results()).toEqual(expected);
    expect(await ended).toBe(0);
    const { status } = (await readRunWorkers(run.runDirectory))!;
    const known = status.workers.find(({ name }) => name === "differs");
    expect(known).toMatchObject({ eligible: false, tiles: 0, reason: expect.stringContaining("other bits") as string });
    expect(tilesDone().some(({ worker }) => worker === "differs")).toBe(false);
  });

  /** Resolves once workers of these names have said that they are there. */
  async function untilThere(names: readonly string[]): Promise<void> {
    const notes = await openNotes(queueAddress(redis.url, false), () => undefined);
    for (;;) {
      const there = (await workersThere(notes)).map(({ name }) => name);
      if (names.every((name) => there.includes(name))) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    notes.close();
  }

  test("ends where no server answers, as a worker does, and leaves nothing behind", async () => {
    const args = ["--queue", `redis://127.0.0.1:${await freePort()}`];
    const worker = spawn(process.execPath, [run.cli, "worker", ...args, "--memory", "1GiB"], { stdio: "ignore" });
    workers.add(worker);
    const left = once(worker, "close");
    const { code, stderr } = await run.start({ args });
    expect(await left).toEqual([2, null]);
    expect([code, stderr]).toEqual([2, expect.stringContaining("error queue/unavailable: The queue")]);
    expect(stderr.match(/ECONNREFUSED/g)).toHaveLength(1);
    expect(existsSync(run.runDirectory)).toBe(false);
  });

  test("is done by a worker whose session was closed; doctor looks at the queue that the variable names", async () => {
    const args = [run.cli, "worker", "--threads", "1", "--memory", "1GiB", "--name", "alone"];
    const env = { ...process.env, REROUTE_QUEUE: redis.url };
    const worker = spawn(process.execPath, args, { env, stdio: ["ignore", "ignore", "pipe"] });
    workers.add(worker);
    await untilThere(["alone"]);
    // What it says of each tile reaches nobody.
    worker.stderr.destroy();
    expect(await coordinate(0)).toMatchObject({ code: 0 });
    expect(run.results()).toEqual(expected);
    expect([worker.exitCode, worker.signalCode]).toEqual([null, null]);
    const { stdout } = spawnSync(process.execPath, [run.cli, "doctor"], { env, encoding: "utf8" });
    expect(stdout).toMatch(/Redis \d/);
    expect(stdout).toContain("alone");
  });

  test("begins a tile once more whose worker is told to stop, which takes up no other", async () => {
    const leaving = startWorker("--name", "leaving");
    const ended = new Promise<number | null>((resolve) => leaving.on("exit", resolve));
    await untilThere(["leaving"]);
    // Its engine stands still, so that it is surely at a tile when it is told.
    process.kill(childrenOf(leaving.pid!)[0]!, "SIGSTOP");
    const spread = coordinate(0);
    const statusNow = async () => (await readRunWorkers(run.runDirectory).catch(() => null))?.status;
    const isAtTile = async () =>
      (await statusNow())?.workers.some(({ name, tile }) => name === "leaving" && tile !== null);
    while (!(await isAtTile())) await new Promise((resolve) => setTimeout(resolve, 20));
    leaving.kill("SIGTERM");
    startWorker("--name", "stays");
    expect([await ended, await spread]).toMatchObject([0, { code: 0 }]);
    expect(run.results()).toEqual(expected);
    expect((await statusNow())!.passes.reduce((sum, { repeated }) => sum + repeated, 0)).toBe(1);
    expect(new Set(tilesDone().map(({ worker }) => worker))).toEqual(new Set(["stays"]));
  });

  test("works on a tile again whose file was cut short, and not on one that is there", async () => {
    const [{ pid }] = [startWorker()];
    expect(pid).toBeGreaterThan(0);
    let coordinator = 0;
    const stop = atTiles([[2, () => process.kill(coordinator, "SIGKILL")]]);
    const args = ["--queue", redis.url, "--local-workers", "0"];
    await run.start({ args, onStart: (number) => (coordinator = number) });
    stop();
    const folder = path.join(run.runDirectory, "tiles");
    const done = readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.safetensors$/.test(name));
    expect(done.length).toBeGreaterThan(0);
    truncateSync(path.join(folder, done[0]!), 100);
    writeFileSync(path.join(folder, "left-over"), "");
    const before = tilesDone().length;
    expect(await run.start({ args })).toMatchObject({ code: 0 });
    expect(run.results()).toEqual(expected);
    expect(tilesDone().length).toBeGreaterThanOrEqual(before);
  });
});

describe.skipIf(!hasRedis || !isNightly)("by night, a run whose work is spread", () => {
  const gptq = {
    ...{ compress: { method: "gptq", options: { group: 8 } }, calibrate: undefined },
    data: { ...recipe.data, sequences: 40, evaluationSequences: 400 },
  };
  const rows: { name: string; recipe: Record<string, unknown>; crew: string[][]; args?: string[]; kill: number[] }[] = [
    ...[1, 4].map((count) => ({
      ...{ name: `gptq by ${count}`, recipe: gptq, kill: [] },
      crew: Array.from({ length: count }, () => []),
    })),
    {
      name: "by halves of the layers, a worker of each half killed",
      recipe: { ...recipe, data: { ...recipe.data, evaluationSequences: 700 } },
      crew: [...["1/2", "2/2", "1/2", "2/2"].map((part) => ["--layers", part]), []],
      ...{ args: ["--layer-parts", "2"], kill: [0, 1] },
    },
  ];
  it.each(rows)("has the bytes of one without a queue: $name", async ({ recipe: own, crew, args = [], kill }) => {
    const parent = temporaryFolder();
    await TinyRun.makeParent(parent);
    await bundleQueueClients();
    const run = new TinyRun(await bundleCli(), parent, own);
    const [{ code }, redis] = await Promise.all([run.start(), RedisServer.start()]);
    expect(code).toBe(0);
    const expected = run.results();
    run.reset();
    const command = [run.cli, "worker", "--queue", redis.url, "--threads", "1", "--memory", "1GiB", "--lock", "2"];
    const workers = crew.map((more) => spawn(process.execPath, [...command, ...more], { stdio: "ignore" }));
    const passesDone = () => {
      const file = path.join(run.runDirectory, "workers.jsonl");
      return existsSync(file) ? readFileSync(file, "utf8").split('"kind":"tile"').length - 1 : 0;
    };
    let killed = 0;
    const timer = setInterval(() => {
      while (killed < kill.length && passesDone() >= 2 * killed + 1) workers[kill[killed++]!]!.kill("SIGKILL");
    }, 10);
    try {
      const spread = ["--queue", redis.url, "--local-workers", "0", ...args];
      expect(await run.start({ args: spread })).toMatchObject({ code: 0 });
      expect([run.results(), killed]).toEqual([expected, kill.length]);
    } finally {
      clearInterval(timer);
      for (const worker of workers) worker.kill("SIGKILL");
      await redis.kill();
    }
  });
});

/** The installed onnxruntime as a package that says it is another release. */
function otherRuntime(): string {
  const folder = temporaryFolder();
  const place = path.join(folder, "node_modules/onnxruntime-node");
  const found = JSON.stringify(path.resolve("node_modules/onnxruntime-node"));
  mkdirSync(place, { recursive: true });
  writeFileSync(
    path.join(place, "index.js"),
    `const found = require(${found});
const versions = { value: { ...found.env.versions, node: "9.9.9" } };
module.exports = Object.create(found, { env: { value: Object.create(found.env, { versions }) } });
`,
  );
  return folder;
}

describe.skipIf(!hasPostgres)("a run whose work is spread by PostgreSQL", () => {
  it("has the bytes of one without a queue, also where the server crashes and a worker is killed", async () => {
    const password = "4%correct-horse@battery";
    const parent = temporaryFolder();
    await TinyRun.makeParent(parent);
    await bundleQueueClients();
    const run = new TinyRun(await bundleCli(), parent, recipe);
    const [{ code }, server] = await Promise.all([run.start(), PostgresServer.start(password)]);
    expect(code).toBe(0);
    const expected = run.results();
    run.reset();
    const env = { REROUTE_QUEUE: server.url };
    const startWorker = (...more: string[]) =>
      spawn(process.execPath, [run.cli, "worker", "--threads", "1", "--memory", "1GiB", "--lock", "2", ...more], {
        env: { ...process.env, ...env },
        stdio: "ignore",
      });
    const workers = [startWorker("--layers", "1/2"), startWorker()];
    const tiles = () => {
      const file = path.join(run.runDirectory, "workers.jsonl");
      return existsSync(file) ? readFileSync(file, "utf8").split('"kind":"tile"').length - 1 : 0;
    };
    const acts: [number, () => void][] = [
      [3, () => workers[0]!.kill("SIGKILL")],
      [14, () => void server.kill().then(() => server.restart())],
    ];
    const timer = setInterval(() => {
      while (acts.length > 0 && tiles() >= acts[0]![0]) acts.shift()![1]();
    }, 10);
    try {
      const { code: spread, stderr } = await run.start({ args: ["--local-workers", "0", "--layer-parts", "2"], env });
      expect([spread, acts.length, stderr.includes("correct-horse")]).toEqual([0, 0, false]);
      expect(run.results()).toEqual(expected);
      const doctor = spawnSync(process.execPath, [run.cli, "doctor", "--queue", server.url.replace(/:[^:@]+@/, "@")], {
        env: { ...process.env, ...env },
        encoding: "utf8",
      });
      expect(doctor.stdout + doctor.stderr).toContain("password");
    } finally {
      clearInterval(timer);
      for (const worker of workers) worker.kill("SIGKILL");
      await server.kill();
    }
  });
});
