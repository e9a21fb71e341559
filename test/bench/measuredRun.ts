import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { runFile, type RunFile, type StageId } from "../../src/protocol/run";

export interface RunSizes {
  sequences: number;
  sequenceLength: number;
  /** Sequences an update. */
  batch: number;
  memory: string;
  threads: number;
}

export interface MeasuredRun {
  /** Largest anonymous memory in each stage, bytes. */
  peaks: Map<StageId | "between stages", number>;
  /** Bytes read from storage in each stage. */
  read: Map<StageId | "between stages", number>;
  /** Processor seconds of the run in each stage: what it would take alone, on a machine that others use, too. */
  own: Map<StageId | "between stages", number>;
  /** Processor seconds that everything else on the machine took in each stage. */
  others: Map<StageId | "between stages", number>;
  run: RunFile;
  seconds: number;
  /** What the kernel held the process to, page cache included; null where no control group could be made. */
  limitBytes: number | null;
}

export interface HowToRun {
  /** A control group kills the process beyond this, page cache included; where none can be made, nothing does. */
  limitBytes?: number;
  /** Bundle of the command line. */
  cli?: string;
}

/**
 * Runs a whole recipe (profile, prune to 62.5 %, calibrate, evaluate) on the checkpoint in `teacher` with the command
 * line as it ships, sampling its anonymous memory every 20 ms from outside.
 */
export async function measuredRun(folder: string, sizes: RunSizes, how: HowToRun = {}): Promise<MeasuredRun> {
  const { limitBytes = null, cli = "dist/cli.js" } = how;
  const { sequences, sequenceLength, batch, memory, threads } = sizes;
  const work = path.join(folder, "work");
  await mkdir(work);
  const text = (name: string) => path.resolve("media/sample", name);
  const recipe = {
    schemaVersion: 1,
    teacher: "../teacher",
    data: {
      ...{ calibration: text("calibration.jsonl"), evaluation: text("evaluation.jsonl") },
      ...{ sequences, sequenceLength, evaluationSequences: Math.min(sequences, 4) },
    },
    compress: { method: "reap", keep: 0.625 },
    calibrate: { batch, heldOut: 0 },
    output: "out",
    ...{ memory, threads },
  };
  const file = path.join(work, "scale.reroute.json");
  await writeFile(file, JSON.stringify(recipe));
  const runDirectory = path.join(work, "run");
  const group = limitBytes === null ? null : makeControlGroup(limitBytes);
  const command = [process.execPath, cli, "run", file, "--run", runDirectory];
  const started = performance.now();
  const child = spawn(
    "sh",
    ["-c", `${group === null ? "" : `echo $$ > ${group}/cgroup.procs && `}exec "$@"`, "sh", ...command],
    {
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  try {
    const sampled = sample(child.pid!, runDirectory);
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (part: string) => (errors = (errors + part).slice(-2000)));
    const ended = await new Promise((resolve) => child.on("close", (code, signal) => resolve(code ?? signal)));
    const samples = sampled.stop();
    if (ended !== 0) throw new Error(`the run ended with ${String(ended)}: ${errors}`);
    const run = runFile.parse(JSON.parse(readFileSync(path.join(runDirectory, "run.json"), "utf8")));
    const seconds = (performance.now() - started) / 1e3;
    return { ...samples, run, seconds, limitBytes: group === null ? null : limitBytes };
  } finally {
    if (group !== null) rmdirSync(group);
  }
}

type Samples = Pick<MeasuredRun, "peaks" | "read" | "own" | "others">;

function sample(pid: number, runDirectory: string): { stop: () => Samples } {
  const samples: Samples = { peaks: new Map(), read: new Map(), own: new Map(), others: new Map() };
  const add = (to: Samples["read"], stage: ReturnType<typeof runningStage>, more: number) =>
    to.set(stage, (to.get(stage) ?? 0) + Math.max(0, more));
  let before = { read: 0, all: processorSeconds(), own: 0 };
  const timer = setInterval(() => {
    const stage = runningStage(runDirectory);
    const resident = field(`/proc/${pid}/status`, "RssAnon") * 1024;
    // Gone already, but not yet reported as closed.
    if (resident === 0) return;
    samples.peaks.set(stage, Math.max(samples.peaks.get(stage) ?? 0, resident));
    const now = { read: field(`/proc/${pid}/io`, "read_bytes"), all: processorSeconds(), own: processorSeconds(pid) };
    add(samples.read, stage, now.read - before.read);
    add(samples.own, stage, now.own - before.own);
    add(samples.others, stage, now.all - before.all - (now.own - before.own));
    before = now;
  }, 20);
  return {
    stop: () => {
      clearInterval(timer);
      return samples;
    },
  };
}

/** Processor seconds of a process, or of the whole machine since it started; 0 where the system does not tell. */
function processorSeconds(pid?: number): number {
  const ticks = (numbers: readonly string[]) => numbers.reduce((sum, number) => sum + Number(number), 0) / 100;
  try {
    if (pid === undefined) {
      // user, nice, system, then idle and waiting, which are left out, interrupts, and what the host took away.
      const [user, nice, system, , , ...rest] = readFileSync("/proc/stat", "utf8")
        .split("\n")[0]!
        .split(/\s+/)
        .slice(1);
      return ticks([user!, nice!, system!, ...rest.slice(0, 3)]);
    }
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return ticks(
      stat
        .slice(stat.lastIndexOf(")") + 2)
        .split(" ")
        .slice(11, 13),
    );
  } catch {
    return 0;
  }
}

/** Writes a folder's files out and gives their page cache back, so that a run reads them from storage. Linux only. */
export function dropFromCache(folder: string): void {
  for (const name of readdirSync(folder))
    spawnSync("dd", [`of=${path.join(folder, name)}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0"]);
}

/** A control group of either version, as root; null where the system lets nobody make one. */
function makeControlGroup(limitBytes: number): string | null {
  for (const [parent, limit] of [
    ["/sys/fs/cgroup/memory", "memory.limit_in_bytes"],
    ["/sys/fs/cgroup", "memory.max"],
  ] as const) {
    const group = path.join(parent, `reroute-bench-${process.pid}`);
    try {
      mkdirSync(group);
      writeFileSync(path.join(group, limit), String(limitBytes));
      return group;
    } catch {
      if (existsSync(group)) rmdirSync(group);
    }
  }
  return null;
}

function runningStage(runDirectory: string): StageId | "between stages" {
  try {
    const { stages } = JSON.parse(readFileSync(path.join(runDirectory, "run.json"), "utf8")) as RunFile;
    return stages.find(({ state }) => state === "running")?.id ?? "between stages";
  } catch {
    return "between stages";
  }
}

/** A number of a file of /proc; 0 where there is none, as on systems other than Linux. */
function field(file: string, name: string): number {
  if (!existsSync(file)) return 0;
  return Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(readFileSync(file, "utf8"))?.[1] ?? 0);
}
