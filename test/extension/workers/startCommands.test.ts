/** What is copied to start workers elsewhere: run with stand-ins for ssh, ray and reroute, and read by the command line's own parser. */
import { spawnSync } from "node:child_process";
import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { Command } from "commander";
import { describe, expect, it, vi } from "vitest";
import {
  languageOf,
  launchers,
  startCommand,
  type Launcher,
  type StartExtras,
  type WorkerStart,
} from "../../../src/extension/workers/startCommands";
import { yamlOf } from "../../../src/extension/workers/yaml";
import type { WorkerOptions } from "../../../src/engine/run/queue/bullWorker";
import { addWorker } from "../../../src/cli/commands/worker";
import { temporaryFolder } from "../../support/temporaryFolder";

/** It comes without types. */
const { load } = createRequire(import.meta.url)("js-yaml") as { load: (text: string) => unknown };

const served: WorkerOptions[] = [];
vi.mock("../../../src/engine/run/queue/bullWorker", () => ({
  serveQueue: (options: WorkerOptions) => void served.push(options),
}));

const plain: WorkerStart = {
  program: ["reroute"],
  queue: "rediss://ada@redis.lab:6380",
  hasPassword: false,
  isInsecureAllowed: false,
  maps: ["/data=/mnt/data"],
  workers: 2,
  threads: 16,
  memoryGiB: 64,
};
const extras: StartExtras = { hosts: ["node1", "ada@node2"], image: "registry.lab/reroute:1", claim: "models" };
/** Each would do something of its own, were it not quoted. */
const odd = ["/a b/$(touch pwned)=/c `touch pwned`", '/it\'s=/"x"; touch pwned', "/line\ntouch pwned", "/~/$HOME/*"];
const secret = "p%4d$w0rd'\"@ x";

interface Started {
  words: string[];
  variable: string | null;
}

/** Runs a script where ssh, ray and reroute are stand-ins: which workers came of it, and what the launchers were told. */
function run(script: string, rayQuotes: "list2cmdline" | "shlex" = "shlex", env: NodeJS.ProcessEnv = {}) {
  const folder = temporaryFolder();
  const log = path.join(folder, "started");
  const tell = (name: string, text: string) => {
    writeFileSync(path.join(folder, name), text);
    chmodSync(path.join(folder, name), 0o755);
  };
  tell(
    "reroute",
    `#!/bin/bash
printf '%s\\0' "\${REROUTE_QUEUE-unset}" "$@" end >"${log}.$$"`,
  );
  // As sshd does: the last words, joined, by the login shell; the variables of here stay here.
  tell(
    "ssh",
    `#!/bin/bash
while [[ $1 == -* ]]; do case $1 in -n) exec </dev/null; shift;; *) echo "$1 $2" >>${log}-options; shift 2;; esac; done
echo "$1" >>${log}-hosts; shift
env -u REROUTE_QUEUE sh -c "$*"`,
  );
  tell(
    "ray",
    `#!/usr/bin/env node
${rayStandIn.toString()}
rayStandIn("${rayQuotes}");`,
  );
  const file = path.join(folder, "script");
  writeFileSync(file, script);
  expect(spawnSync("bash", ["-n", file], { encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
  const interpreter = script.startsWith("#!/bin/bash") ? "bash" : "sh";
  const clean = { PATH: `${folder}:${process.env["PATH"]}`, HOME: folder };
  const { status, stderr } = spawnSync(interpreter, [file], {
    cwd: folder,
    env: { ...clean, ...env },
    encoding: "utf8",
  });
  const files = readdirSync(folder);
  const lines = (name: string) =>
    files.includes(name) ? readFileSync(path.join(folder, name), "utf8").trim().split("\n") : [];
  const started = files
    .filter((name) => name.startsWith("started."))
    .map((name): Started => {
      const [variable, ...words] = readFileSync(path.join(folder, name), "utf8").split("\0").slice(0, -2);
      return { words, variable: variable === "unset" ? null : variable! };
    });
  return {
    status,
    stderr,
    files,
    started,
    hosts: lines("started-hosts").sort(),
    options: lines("started-options").sort(),
  };
}

/** `ray job submit` as a script of its own: reads its options, and gives the rest to a shell, quoted as its versions do. */
function rayStandIn(quotes: "list2cmdline" | "shlex"): void {
  /* eslint-disable @typescript-eslint/no-require-imports -- it runs alone */
  const { parseArgs } = require("node:util") as typeof import("node:util");
  const { spawnSync } = require("node:child_process") as typeof import("node:child_process");
  const at = process.argv.indexOf("--");
  const value = { type: "string" } as const;
  const options = { "no-wait": { type: "boolean" }, "entrypoint-num-cpus": value, "entrypoint-memory": value } as const;
  const { positionals } = parseArgs({ args: process.argv.slice(2, at), options, allowPositionals: true });
  if (positionals.join(" ") !== "job submit") process.exit(2);
  const posix = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);
  const windows = (word: string) => (/[\s]|^$/.test(word) ? `"${word}"` : word).replace(/(?<!^)"(?!$)/g, '\\"');
  const words = process.argv.slice(at + 1).map(quotes === "shlex" ? posix : windows);
  process.exit(spawnSync(words.join(" "), { shell: true, stdio: "inherit" }).status ?? 1);
}

/** What the command line makes of a worker's words. */
async function parsed({ words, variable }: Started): Promise<WorkerOptions> {
  served.length = 0;
  vi.stubEnv("REROUTE_QUEUE", variable ?? undefined);
  const { signal } = new AbortController();
  const program = new Command().exitOverride();
  addWorker(program, { out: () => 0, err: () => 0, isTerminal: false, columns: 80, signal, cwd: "/" });
  await program.parseAsync(words, { from: "user" });
  vi.unstubAllEnvs();
  return served[0]!;
}

const scripts = launchers.filter((launcher) => languageOf[launcher] === "shellscript");
/** Workers that each launcher starts of `plain`: ssh as many on each host, an array as often as Slurm runs the script. */
const expected: Record<Launcher, number> = { shell: 2, ssh: 4, slurm: 1, ray: 2, kubernetes: 2 };

describe.each(scripts)("%s", (launcher) => {
  it("starts workers that the command line understands", async () => {
    const { started, status, stderr, hosts } = run(startCommand(launcher, plain, extras));
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(started).toHaveLength(expected[launcher]);
    expect(hosts).toEqual(launcher === "ssh" ? ["ada@node2", "node1"] : []);
    for (const worker of started) {
      const options = await parsed(worker);
      expect(options.address.shown).toBe(plain.queue);
      expect(options.maps).toEqual([{ from: "/data", to: "/mnt/data" }]);
      expect(options.idleExitSeconds).toBe(900);
      // 7/8 of the job's 64 GiB.
      expect(options.runtime).toMatchObject({ threads: 16, memoryBudgetBytes: 56 * 2 ** 30 });
    }
  });

  it("hands a password on by the environment alone", async () => {
    const script = startCommand(launcher, { ...plain, hasPassword: true }, extras);
    expect(script).not.toContain("--queue ");
    // Ray's nodes have the variable, not the machine that the job is sent from.
    if (launcher !== "ray")
      expect(run(script)).toMatchObject({ started: [], stderr: expect.stringContaining("is not set") as string });
    const url = `rediss://ada:${encodeURIComponent(secret)}@redis.lab:6380`;
    const { started, status } = run(script, "shlex", { REROUTE_QUEUE: url });
    expect(status).toBe(0);
    expect(started).toHaveLength(expected[launcher]);
    for (const worker of started) {
      expect(worker.words.join(" ")).not.toContain("rediss:");
      expect((await parsed(worker)).address.connection).toMatchObject({ username: "ada", password: secret });
    }
  });

  it("keeps what a folder's name holds", async () => {
    const start = { ...plain, maps: odd, workers: 1 };
    if (launcher === "ray") {
      expect(() => startCommand(launcher, start, extras)).toThrow(/quote .* differently/);
      return;
    }
    const { started, files } = run(startCommand(launcher, start, extras));
    expect(started.length).toBeGreaterThan(0);
    for (const { words } of started) {
      const maps = words.flatMap((word, i) => (words[i - 1] === "--map" ? [word] : []));
      expect(maps).toEqual(odd);
    }
    expect(files).not.toContain("pwned");
  });
});

it("Ray of both ways to quote starts the same", () => {
  const script = startCommand("ray", plain, extras);
  const words = (quotes: "list2cmdline" | "shlex") => run(script, quotes).started.map((one) => one.words);
  expect(words("list2cmdline")).toEqual(words("shlex"));
});

it("ssh brings a queue of this machine along, and is given hosts alone", () => {
  const local = { ...plain, queue: "redis://127.0.0.1:7000" };
  expect(run(startCommand("ssh", local, extras)).options).toEqual([
    ...["-R 127.0.0.1:7000:127.0.0.1:7000", "-R 127.0.0.1:7000:127.0.0.1:7000"],
    ...["-o ExitOnForwardFailure=yes", "-o ExitOnForwardFailure=yes"],
  ]);
  expect(run(startCommand("ssh", plain, extras)).options).toEqual([]);
  for (const host of ["-oProxyCommand=x", "a b", "$(x)", ""])
    expect(() => startCommand("ssh", plain, { ...extras, hosts: [host] })).toThrow(/no host/);
});

it("Slurm's options are at the top, as sbatch reads them", () => {
  const script = startCommand("slurm", { ...plain, memoryGiB: 1.5 }, extras);
  const [shebang, ...lines] = script.split("\n");
  expect(shebang).toBe("#!/bin/bash");
  const options = lines.slice(
    0,
    lines.findIndex((line) => !line.startsWith("#SBATCH ")),
  );
  expect(options.map((line) => line.replace("#SBATCH --", ""))).toEqual([
    "job-name=reroute-worker",
    "array=1-2",
    "ntasks=1",
    "cpus-per-task=16",
    "mem=1536M",
    "requeue",
    "signal=B:TERM@60",
    "output=reroute-worker-%A_%a.log",
  ]);
  const { started } = run(script, "shlex", { SLURM_CPUS_PER_TASK: "5" });
  expect(started[0]!.words.slice(-2)).toEqual(["--threads", "5"]);
});

describe("a Kubernetes Job", () => {
  interface Job {
    kind: string;
    spec: { completions: number; parallelism: number; completionMode: string; template: { spec: Pod } };
  }
  interface Pod {
    restartPolicy: string;
    containers: {
      image: string;
      command: string[];
      env?: unknown;
      resources: unknown;
      volumeMounts: { name: string; mountPath: string }[];
    }[];
    volumes: unknown;
  }
  const job = (start: WorkerStart): Job => load(startCommand("kubernetes", start, extras)) as Job;

  it("is an indexed one whose pods the command line understands", async () => {
    const { kind, spec } = job(plain);
    expect(kind).toBe("Job");
    expect(spec).toMatchObject({ completions: 2, parallelism: 2, completionMode: "Indexed" });
    const { containers, restartPolicy, volumes } = spec.template.spec;
    expect(restartPolicy).toBe("Never"); // what backoffLimitPerIndex asks for
    const [{ command, image, resources, volumeMounts, env }] = containers as [Pod["containers"][0]];
    expect(image).toBe("registry.lab/reroute:1");
    expect(env).toBeUndefined();
    expect(resources).toEqual({ requests: { cpu: "16", memory: "65536Mi" }, limits: { cpu: "16", memory: "65536Mi" } });
    expect(volumeMounts).toEqual([{ name: "shared", mountPath: "/mnt/data" }]);
    expect(volumes).toEqual([{ name: "shared", persistentVolumeClaim: { claimName: "models" } }]);
    expect(command[0]).toBe("reroute");
    expect((await parsed({ words: command.slice(1), variable: null })).address.shown).toBe(plain.queue);
  });

  it("takes a password from a Secret, and keeps what a folder's name holds", () => {
    const text = startCommand("kubernetes", { ...plain, hasPassword: true, maps: odd }, extras);
    const [container] = (load(text) as Job).spec.template.spec.containers;
    expect(container!.env).toEqual([
      { name: "REROUTE_QUEUE", valueFrom: { secretKeyRef: { name: "reroute-queue", key: "url" } } },
    ]);
    expect(container!.command).not.toContain("--queue");
    // Kubernetes expands $(NAME), and makes $$( of it a plain $(.
    const seen = container!.command.map((word) => word.replaceAll("$$(", "$("));
    expect(seen.filter((_, i) => seen[i - 1] === "--map")).toEqual(odd);
  });
});

it("YAML is read as what it was made of", () => {
  const value = {
    texts: ["plain", "1", "yes", "~", "", "a: b", "# c", "line\nline", "- x", "'", "ü 𝄞", "null", "0x1f", "1e3", "@a"],
    nested: { list: [{ a: 1, b: [true, false] }, { c: "d" }], n: 1.5 },
  };
  expect(load(yamlOf(value).join("\n"))).toEqual(value);
});
