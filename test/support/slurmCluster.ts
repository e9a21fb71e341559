import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { freePort } from "./redisServer";
import { temporaryFolder } from "./temporaryFolder";

const programs = ["slurmctld", "slurmd", "munged", "sbatch", "scancel"];

/** Whether a cluster can be started here: Debian's slurmctld, slurmd, slurm-client and munge, as root. */
export const hasSlurm =
  process.getuid?.() === 0 && programs.every((name) => spawnSync("which", [name], { stdio: "ignore" }).status === 0);

/**
 * A Slurm cluster of a test's own: two nodes of two processors, which are both this machine. No control groups, no accounting, and
 * a munge daemon with a key and a socket of its own, so that nothing of the machine's is used.
 */
export class SlurmCluster {
  readonly #daemons: ChildProcess[] = [];

  private constructor(readonly directory: string) {}

  static async start(): Promise<SlurmCluster> {
    const cluster = new SlurmCluster(temporaryFolder());
    const { directory } = cluster;
    const [munge, key] = [path.join(directory, "munge"), path.join(directory, "munge", "key")];
    for (const name of ["munge", "state", "spool-n1", "spool-n2", "log", "jobs"]) mkdirSync(path.join(directory, name));
    writeFileSync(key, randomBytes(128), { mode: 0o400 });
    const socket = path.join(munge, "socket");
    const ofMunge = ["pid-file", "log-file", "seed-file"].map((name) => `--${name}=${path.join(munge, name)}`);
    cluster.#begin("munged", ["--foreground", "--force", `--key-file=${key}`, `--socket=${socket}`, ...ofMunge]);
    await until(() => existsSync(socket), "munged");
    const [control, ...nodes] = [await freePort(), await freePort(), await freePort()];
    const lines = [
      "ClusterName=test",
      `SlurmctldHost=${hostname().split(".")[0]}(127.0.0.1)`,
      `SlurmctldPort=${control}`,
      "SlurmUser=root",
      "SlurmdUser=root",
      "AuthType=auth/munge",
      `AuthInfo=socket=${socket}`,
      `CryptoType=crypto/munge`,
      "ProctrackType=proctrack/linuxproc",
      "TaskPlugin=task/none",
      "MpiDefault=none",
      "JobAcctGatherType=jobacct_gather/none",
      "AccountingStorageType=accounting_storage/none",
      "SelectType=select/cons_tres",
      "SelectTypeParameters=CR_Core",
      "ReturnToService=2",
      "JobRequeue=1",
      "KillWait=10",
      `StateSaveLocation=${path.join(directory, "state")}`,
      `SlurmdSpoolDir=${path.join(directory, "spool-%n")}`,
      `SlurmctldPidFile=${path.join(directory, "slurmctld.pid")}`,
      `SlurmdPidFile=${path.join(directory, "slurmd-%n.pid")}`,
      `SlurmctldLogFile=${path.join(directory, "log", "slurmctld.log")}`,
      `SlurmdLogFile=${path.join(directory, "log", "slurmd-%n.log")}`,
      ...nodes.map(
        (port, i) =>
          `NodeName=n${i + 1} NodeHostname=${hostname().split(".")[0]} NodeAddr=127.0.0.1 Port=${port} CPUs=2 RealMemory=2000`,
      ),
      "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
    ];
    writeFileSync(path.join(directory, "slurm.conf"), `${lines.join("\n")}\n`);
    cluster.#begin("slurmctld", ["-D"]);
    for (const node of ["n1", "n2"]) cluster.#begin("slurmd", ["-D", "-N", node]);
    await until(
      () => cluster.#ask("sinfo", ["-h", "-N", "-o", "%N %T"]).match(/idle/g)?.length === 2,
      "two idle nodes",
    );
    return cluster;
  }

  /** Where jobs run and write what they say. */
  get jobs(): string {
    return path.join(this.directory, "jobs");
  }

  /** Submits a script. @returns the job's number */
  submit(script: string): string {
    const file = path.join(this.jobs, "job.sh");
    writeFileSync(file, script);
    return this.#ask("sbatch", ["--parsable", `--chdir=${this.jobs}`, file]).trim();
  }

  /** Tasks of an array by number, with their states and nodes. */
  tasks(job: string): { task: number; state: string; node: string }[] {
    const text = this.#ask("squeue", ["-h", "-r", "-t", "all", "-j", job, "-o", "%K %T %N"]);
    const rows = text.split("\n").filter(Boolean);
    return rows.map((row) => {
      const [task = "", state = "", node = ""] = row.split(" ");
      return { task: Number(task), state, node };
    });
  }

  cancel(job: string): void {
    this.#ask("scancel", [job]);
  }

  /** What a daemon or job wrote. */
  log(...names: string[]): string {
    const file = path.join(this.directory, ...names);
    return existsSync(file) ? readFileSync(file, "utf8") : "";
  }

  /** Ends its jobs and then its daemons: processes of jobs that are to tell a controller of their end stay as long as there is none. */
  async stop(): Promise<void> {
    const jobs = () => this.#ask("squeue", ["--noheader", "--format=%A"]).split("\n").filter(Boolean);
    for (const job of new Set(jobs())) this.cancel(job);
    await until(() => jobs().length === 0, "the end of all jobs").catch(() => undefined);
    // Nodes first: they end the jobs' processes.
    for (const daemon of [...this.#daemons].reverse()) daemon.kill("SIGTERM");
  }

  #begin(program: string, args: string[]): void {
    this.#daemons.push(spawn(program, args, { env: this.#env(), stdio: "ignore" }));
  }

  #ask(program: string, args: string[]): string {
    return execFileSync(program, args, { env: this.#env(), encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  }

  #env(): NodeJS.ProcessEnv {
    return { ...process.env, SLURM_CONF: path.join(this.directory, "slurm.conf") };
  }
}

async function until(isSo: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 60_000;
  for (;;) {
    try {
      if (isSo()) return;
    } catch {
      // Not listening yet.
    }
    if (Date.now() > end) throw new Error(`no ${what} after a minute`);
    await wait(100);
  }
}
