import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cp } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Readable } from "node:stream";
import { setTimeout as wait } from "node:timers/promises";
import { timelineLine } from "../../src/protocol/workers";
import { makeCheckpoint } from "./makeCheckpoint";

const cli = "dist/cli.js";
const ticksPerSecond = Number(spawnSync("getconf", ["CLK_TCK"], { encoding: "utf8" }).stdout);

interface Case {
  label: string;
  teacher: (directory: string) => Promise<void>;
  sequences: number;
}

const cases: Case[] = [
  {
    label: "the sample's profile",
    teacher: (directory) => cp("media/sample/checkpoint", directory, { recursive: true }),
    sequences: 1024,
  },
  {
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
 * `npm run bench scale workers`: profiles by one and by two single-threaded workers that are there before. Processor time of finished
 * tiles, as a share of all that coordinator, workers and their engines take; the queue's server is told of apart.
 */
export async function workersBench(print: (line: string) => void): Promise<void> {
  for (const one of cases) {
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

async function profile(folder: string, sequences: number, count: number) {
  const port = 20_000 + (process.pid % 20_000);
  const url = `redis://127.0.0.1:${port}`;
  const [run, text] = [path.join(folder, "run"), path.resolve("media/sample/calibration.jsonl")];
  rmSync(run, { recursive: true, force: true });
  const redis = spawn("redis-server", ["--bind", "127.0.0.1", "--port", String(port), "--save", "", "--dir", folder]);
  const common = ["--threads", "1", "--memory", "2GiB"];
  const crew: ChildProcess[] = [];
  try {
    await said(redis.stdout, "Ready to accept connections");
    for (let i = 0; i < count; i++) {
      const worker = spawn(process.execPath, [cli, "worker", "--queue", url, "--name", `w${i}`, ...common]);
      crew.push(worker);
      await said(worker.stderr, "waits for tiles");
    }
    const before = crew.map(({ pid }) => processorSeconds(pid!));
    const serverBefore = processorSeconds(redis.pid!);
    const args = ["profile", path.join(folder, "teacher"), "--data", text, "--sequences", String(sequences)];
    const child = spawn(
      process.execPath,
      [cli, ...args, "--sequence-length", "128", "--out", run, "--queue", url, "--local-workers", "0", ...common],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    let output = "";
    child.stderr.setEncoding("utf8").on("data", (more: string) => (output += more));
    let coordinator = 0;
    const sampling = setInterval(() => (coordinator = Math.max(coordinator, processorSeconds(child.pid!))), 20);
    const [code] = (await once(child, "exit")) as [number];
    clearInterval(sampling);
    if (code !== 0) throw new Error(output);
    const workers = crew.reduce((sum, { pid }, i) => sum + processorSeconds(pid!) - before[i]!, 0);
    const lines = readFileSync(path.join(run, "workers.jsonl"), "utf8").trim().split("\n");
    const tiles = lines
      .map((line) => timelineLine.parse(JSON.parse(line)))
      .flatMap((line) => (line.kind === "tile" && !line.repeated ? [line.processorSeconds] : []));
    const useful = tiles.reduce((sum, seconds) => sum + seconds, 0);
    const server = processorSeconds(redis.pid!) - serverBefore;
    return { useful, coordinator, workers, server, tiles: tiles.length };
  } finally {
    for (const worker of crew) worker.kill("SIGKILL");
    redis.kill("SIGKILL");
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
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean);
    const own = (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
    return children.reduce((sum, child) => sum + processorSeconds(Number(child)), own);
  } catch {
    return 0;
  }
}
