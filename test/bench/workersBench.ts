import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cp } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Readable } from "node:stream";
import { setTimeout as wait } from "node:timers/promises";
import { timelineLine } from "../../src/protocol/workers";
import { childrenOf } from "../support/childrenOf";
import { makeCheckpoint } from "./makeCheckpoint";

const cli = "dist/cli.js";
const ticksPerSecond = Number(spawnSync("getconf", ["CLK_TCK"], { encoding: "utf8" }).stdout);

interface Case {
  name: string;
  label: string;
  teacher: (directory: string) => Promise<void>;
  sequences: number;
}

const cases: Case[] = [
  {
    name: "sample",
    label: "the sample's profile",
    teacher: (directory) => cp("media/sample/checkpoint", directory, { recursive: true }),
    sequences: 1024,
  },
  {
    name: "layers",
    label: "8 layers of 64 experts, synthetic",
    teacher: (directory) =>
      makeCheckpoint({
        ...{ directory, family: "qwen3_moe", deviation: 0.05, tokenizerFrom: "media/sample/checkpoint" },
        shape: {
          ...{ hiddenSize: 512, numExperts: 64, numExpertsPerToken: 4, moeIntermediateSize: 256, vocabSize: 2048 },
          ...{ numHeads: 8, numKeyValueHeads: 2, headDim: 64, numLayers: 8, maxPositionEmbeddings: 512 },
        },
      }).then(() => undefined),
    sequences: 512,
  },
];

/**
 * `npm run bench scale workers [sample|layers]`: profiles by one and by two single-threaded workers that are there before. Processor time of finished
 * tiles, as a share of all that coordinator, workers and their engines take; the queue's server is told of apart.
 */
export async function workersBench(only: string | undefined, print: (line: string) => void): Promise<void> {
  for (const one of cases.filter(({ name }) => only === undefined || name === only)) {
    const folder = mkdtempSync(path.join(tmpdir(), "reroute-workers-bench-"));
    try {
      await one.teacher(path.join(folder, "teacher"));
      const totals: number[] = [];
      for (const count of [1, 2, 2, 1]) {
        const { useful, coordinator, workers, server, tiles } = await profile(folder, one.sequences, count);
        totals.push(coordinator + workers);
        print(
          `${one.label}, ${count} ${count === 1 ? "worker" : "workers"}: ${tiles} tiles ${useful.toFixed(1)} s of ${(coordinator + workers).toFixed(1)} s, efficiency ${(useful / (coordinator + workers)).toFixed(3)} (coordinator ${coordinator.toFixed(1)}, workers ${workers.toFixed(1)}; Redis ${server.toFixed(2)})`,
        );
      }
      const [a, b, c, d] = totals as [number, number, number, number];
      print(`${one.label}: all processor time of one worker over that of two ${((a + d) / (b + c)).toFixed(3)}`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}

/** A profile; what its tiles took of all that it took. */
async function profile(folder: string, sequences: number, count: number) {
  const text = path.resolve("media/sample/calibration.jsonl");
  const args = ["profile", path.join(folder, "teacher"), "--data", text, "--sequences", String(sequences)];
  const run = path.join(folder, "run");
  const taken = await spread(folder, [...args, "--sequence-length", "128", "--out", run], count);
  const lines = readFileSync(path.join(run, "workers.jsonl"), "utf8").trim().split("\n");
  const tiles = lines
    .map((line) => timelineLine.parse(JSON.parse(line)))
    .flatMap((line) => (line.kind === "tile" && !line.repeated ? [line.processorSeconds] : []));
  rmSync(run, { recursive: true });
  return { ...taken, useful: tiles.reduce((sum, seconds) => sum + seconds, 0), tiles: tiles.length };
}

/** Updates of Router KD that a measurement has more than another of the same text. */
const [fewEpochs, manyEpochs, sequences, batch] = [1, 5, 64, 8];

/**
 * `npm run bench scale queue`: what the queue takes of each update of Router KD, as processor time of calibrations of the sample by one
 * worker of one thread, less that of the same without a queue; of many updates less few, so that starts and targets cancel out.
 */
export async function queueBench(rounds: number, print: (line: string) => void): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), "reroute-queue-bench-"));
  const student = path.join(folder, "student");
  const compress = ["compress", "media/sample/checkpoint", "--method", "aimer", "--keep", "0.5", "--out", student];
  try {
    const { status, stderr } = spawnSync(process.execPath, [cli, ...compress], { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    const updates = ((manyEpochs - fewEpochs) * sequences) / batch;
    const each: Record<"without" | "with" | "server", number[]> = { without: [], with: [], server: [] };
    for (let round = 0; round < rounds; round++)
      for (const count of round % 2 === 0 ? [0, 1] : [1, 0]) {
        const [few, many] = [
          await calibration(folder, student, fewEpochs, count),
          await calibration(folder, student, manyEpochs, count),
        ];
        const perUpdate = (of: (taken: typeof few) => number) => ((of(many) - of(few)) / updates) * 1e3;
        const own = perUpdate(({ coordinator, workers }) => coordinator + workers);
        each[count === 0 ? "without" : "with"].push(own);
        const server = perUpdate(({ server }) => server);
        if (count > 0) each.server.push(server);
        print(
          `round ${round + 1}, ${count === 0 ? "no queue" : "one worker"}: ${own.toFixed(1)} ms of processor time an update${count === 0 ? "" : `, Redis ${server.toFixed(2)} ms`}`,
        );
      }
    const [without, spreadOut, server] = [each.without, each.with, each.server].map(median) as [number, number, number];
    print(
      `an update of ${batch} sequences: ${without.toFixed(1)} ms without a queue, ${spreadOut.toFixed(1)} ms with one; the queue's share ${(spreadOut - without).toFixed(1)} ms, ${((spreadOut - without) / batch).toFixed(1)} ms a tile; Redis ${server.toFixed(2)} ms more (medians of ${rounds})`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function calibration(folder: string, student: string, epochs: number, count: number) {
  const [out, run] = [path.join(folder, "out"), path.join(folder, "calibration")];
  const args = ["calibrate", student, "--teacher", "media/sample/checkpoint", "--epochs", String(epochs)];
  const text = ["--data", "media/sample/calibration.jsonl", "--sequences", String(sequences), "--batch", String(batch)];
  const places = ["--held-out", "0", "--sequence-length", "128", "--out", out, "--run", run];
  const taken = await spread(folder, [...args, ...text, ...places], count);
  for (const made of [out, run]) rmSync(made, { recursive: true, force: true });
  return taken;
}

/** Seconds of processor time of a command by so many workers of one thread that are there before; none: without a queue. */
async function spread(folder: string, command: readonly string[], count: number) {
  const port = 20_000 + (process.pid % 20_000);
  const url = `redis://127.0.0.1:${port}`;
  const common = ["--threads", "1", "--memory", "2GiB"];
  const crew: ChildProcess[] = [];
  const redis =
    count === 0
      ? null
      : spawn("redis-server", ["--bind", "127.0.0.1", "--port", String(port), "--save", "", "--dir", folder]);
  try {
    if (redis) await said(redis.stdout, "Ready to accept connections");
    for (let i = 0; i < count; i++) {
      const worker = spawn(process.execPath, [cli, "worker", "--queue", url, "--name", `w${i}`, ...common]);
      crew.push(worker);
      await said(worker.stderr, "waits for tiles");
    }
    const before = crew.map(({ pid }) => processorSeconds(pid!));
    const serverBefore = redis ? processorSeconds(redis.pid!) : 0;
    const queue = count === 0 ? [] : ["--queue", url, "--local-workers", "0"];
    const child = spawn(process.execPath, [cli, ...command, ...queue, ...common], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let output = "";
    child.stderr.setEncoding("utf8").on("data", (more: string) => (output += more));
    let coordinator = 0;
    const sampling = setInterval(() => (coordinator = Math.max(coordinator, processorSeconds(child.pid!))), 20);
    const [code] = (await once(child, "exit")) as [number];
    clearInterval(sampling);
    if (code !== 0) throw new Error(output);
    const workers = crew.reduce((sum, { pid }, i) => sum + processorSeconds(pid!) - before[i]!, 0);
    return { coordinator, workers, server: redis ? processorSeconds(redis.pid!) - serverBefore : 0 };
  } finally {
    for (const worker of crew) worker.kill("SIGKILL");
    redis?.kill("SIGKILL");
    await wait(200);
  }
}

/** Waits for a word; what comes later is read and dropped. Leaving a loop over a stream would close it, of which its writer dies. */
async function said(stream: Readable, word: string): Promise<void> {
  let text = "";
  for await (const more of stream.iterator({ destroyOnReturn: false }))
    if ((text += String(more)).includes(word)) break;
  if (!text.includes(word)) throw new Error(text);
  stream.resume();
}

/** User and system time of a process and those that it started (Linux); 0 once it is gone. */
function processorSeconds(pid: number): number {
  if (!existsSync(`/proc/${pid}/stat`)) return 0;
  try {
    // Behind the name, which may hold spaces: state, and from the 12th on user and system time.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    const own = (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
    return childrenOf(pid).reduce((sum, child) => sum + processorSeconds(child), own);
  } catch {
    return 0;
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
