/** What starts workers elsewhere, as text to copy. No launcher is spoken to, and no text holds a password. */
import { RerouteError } from "../../protocol/errors";
import { shellWord } from "../../protocol/shellWord";
import { yamlOf } from "./yaml";

export interface WorkerStart {
  /** How `reroute` is called where the worker is. */
  program: readonly string[];
  /** The queue's URL without its password. */
  queue: string;
  /** Then workers take the whole URL from the variable REROUTE_QUEUE. */
  hasPassword: boolean;
  isInsecureAllowed: boolean;
  /** Folders as `--map` takes them: FROM=TO, or one folder that lies at the same place. */
  maps: readonly string[];
  workers: number;
  /** Threads of each worker. */
  threads: number;
  /** Memory of each worker's job, GiB; null: what the machine has. */
  memoryGiB: number | null;
}

export interface StartExtras {
  /** ssh: machines, each gets `workers`. */
  hosts: readonly string[];
  /** Kubernetes: image that has `reroute`, and the claim of the volume that checkpoints and runs are on. */
  image: string;
  claim: string;
}

export const launchers = ["shell", "ssh", "slurm", "kubernetes", "ray"] as const;
export type Launcher = (typeof launchers)[number];

/** Language of the text, as an editor calls it. */
export const languageOf: Record<Launcher, "shellscript" | "yaml"> = {
  shell: "shellscript",
  ssh: "shellscript",
  slurm: "shellscript",
  kubernetes: "yaml",
  ray: "shellscript",
};

/**
 * A script or manifest that starts the workers.
 * @throws RerouteError arguments/invalid where a launcher could not hand on what was given
 */
export function startCommand(launcher: Launcher, start: WorkerStart, extras: StartExtras): string {
  const lines = { shell, ssh, slurm, kubernetes, ray }[launcher](start, extras);
  return `${lines.join("\n")}\n`;
}

/** Whether a queue's URL names the machine that it is read on. */
export function isLoopback(queue: string): boolean {
  const host = URL.canParse(queue) ? new URL(queue).hostname : "";
  return ["localhost", "127.0.0.1", "[::1]"].includes(host);
}

/** Of a job's memory a worker is given this share: the rest is onnxruntime's, Node's and the page cache's. */
const workerShare = 7 / 8;

/** Words of the worker's command line, but for its threads. */
function workerWords(start: WorkerStart): string[] {
  const { program, queue, hasPassword, isInsecureAllowed, maps, memoryGiB } = start;
  return [
    ...program,
    "worker",
    ...(hasPassword ? [] : ["--queue", queue]),
    ...(isInsecureAllowed ? ["--insecure-queue"] : []),
    ...maps.flatMap((map) => ["--map", map]),
    ...(memoryGiB === null ? [] : ["--memory", `${Math.max(1, Math.floor(memoryGiB * workerShare * 1024))}MiB`]),
    "--idle-exit",
    "15m",
  ];
}

const joined = (words: readonly string[]) => words.map((word) => shellWord(word)).join(" ");
const withThreads = (start: WorkerStart) => [...workerWords(start), "--threads", String(start.threads)];

/** Ends a script that lacks the variable, with how to set it: read without an echo, so that no history keeps it. */
function passwordGuard({ hasPassword, queue }: WorkerStart): string[] {
  if (!hasPassword) return [];
  return [
    "# The queue has a password. Set REROUTE_QUEUE to the URL with it, as user:PASSWORD@host, so that no history keeps it:",
    `# ${oneLine(queue)}`,
    "#   read -rs REROUTE_QUEUE && export REROUTE_QUEUE",
    ': "${REROUTE_QUEUE:?is not set}"',
  ];
}

/** A comment on a queue that other machines cannot reach as it is named. */
function reachNote({ queue }: WorkerStart): string[] {
  if (!isLoopback(queue)) return [];
  return [
    `# ${oneLine(queue)} is this machine to whoever reads it:`,
    "# name a queue that the workers' machines reach (reroute.queue).",
  ];
}

function shell(start: WorkerStart): string[] {
  const command = joined(withThreads(start));
  const head = ["#!/bin/sh", ...passwordGuard(start)];
  if (start.workers === 1) return [...head, `exec ${command}`];
  return [...head, `for i in $(seq ${start.workers}); do`, `  ${command} &`, "done", "wait"];
}

/**
 * One session a machine. A queue of this machine comes along through a tunnel; a password through the session's standard input,
 * since arguments and variables of ssh could be read by others.
 */
function ssh(start: WorkerStart, { hosts }: StartExtras): string[] {
  for (const host of hosts)
    if (!/^\w[\w.@:-]*$/.test(host)) throw invalid(`${JSON.stringify(host)} is no host that ssh could be given`);
  const { hasPassword, queue, workers } = start;
  const command = joined(withThreads(start));
  const work = workers === 1 ? `exec ${command}` : `for i in $(seq ${workers}); do ${command} & done; wait`;
  const { port } = new URL(queue);
  const end = `127.0.0.1:${port === "" ? 6379 : port}`;
  const tunnel = isLoopback(queue) ? `-o ExitOnForwardFailure=yes -R ${end}:${end} ` : "";
  const session = hasPassword
    ? `printf '%s\\n' "$REROUTE_QUEUE" | ssh ${tunnel}"$host" ${shellWord(`IFS= read -r REROUTE_QUEUE; export REROUTE_QUEUE; ${work}`)} &`
    : `ssh -n ${tunnel}"$host" ${shellWord(work)} &`;
  return ["#!/bin/sh", ...passwordGuard(start), `for host in ${joined(hosts)}; do`, `  ${session}`, "done", "wait"];
}

/** An array of workers. `B:` is the batch shell, which `exec` has made the worker; without it only job steps would be told. */
function slurm(start: WorkerStart): string[] {
  const { threads, memoryGiB, workers } = start;
  return [
    "#!/bin/bash",
    "#SBATCH --job-name=reroute-worker",
    `#SBATCH --array=1-${workers}`,
    "#SBATCH --ntasks=1",
    `#SBATCH --cpus-per-task=${threads}`,
    ...(memoryGiB === null ? [] : [`#SBATCH --mem=${Math.ceil(memoryGiB * 1024)}M`]),
    "#SBATCH --requeue",
    "#SBATCH --signal=B:TERM@60",
    "#SBATCH --output=reroute-worker-%A_%a.log",
    ...reachNote(start),
    ...passwordGuard(start),
    `exec ${joined(workerWords(start))} --threads "\${SLURM_CPUS_PER_TASK:-${threads}}"`,
  ];
}

/** An indexed Job: a pod that is evicted is started again by its index, without a limit for all of them together. */
function kubernetes(start: WorkerStart, { image, claim }: StartExtras): string[] {
  const { hasPassword, workers, threads, memoryGiB, maps } = start;
  const size = { cpu: String(threads), ...(memoryGiB === null ? {} : { memory: `${Math.ceil(memoryGiB * 1024)}Mi` }) };
  const places = [...new Set(maps.map((map) => toOf(map)))];
  const volume = "shared";
  const job = {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: "reroute-workers", labels: { app: "reroute-worker" } },
    spec: {
      completions: workers,
      parallelism: workers,
      completionMode: "Indexed",
      backoffLimitPerIndex: 5,
      ttlSecondsAfterFinished: 3600,
      template: {
        metadata: { labels: { app: "reroute-worker" } },
        spec: {
          restartPolicy: "Never",
          terminationGracePeriodSeconds: 60,
          automountServiceAccountToken: false,
          containers: [
            {
              name: "worker",
              image,
              command: withThreads(start).map(withoutExpansion),
              ...(hasPassword
                ? {
                    env: [
                      { name: "REROUTE_QUEUE", valueFrom: { secretKeyRef: { name: "reroute-queue", key: "url" } } },
                    ],
                  }
                : {}),
              resources: { requests: size, limits: size },
              securityContext: { allowPrivilegeEscalation: false },
              ...(places.length === 0
                ? {}
                : { volumeMounts: places.map((mountPath) => ({ name: volume, mountPath })) }),
            },
          ],
          ...(places.length === 0 ? {} : { volumes: [{ name: volume, persistentVolumeClaim: { claimName: claim } }] }),
        },
      },
    },
  };
  const secret = hasPassword
    ? [
        "# The queue's URL with its password is a Secret:",
        "#   read -rs REROUTE_QUEUE",
        `#   printf %s "$REROUTE_QUEUE" | kubectl create secret generic reroute-queue --from-file=url=/dev/stdin`,
      ]
    : [];
  const mounts =
    places.length > 1
      ? ["# All folders are mounted from one claim: give each its own volume, or a subPath, where they are several."]
      : [];
  return ["# kubectl apply -f reroute-workers.yaml", ...secret, ...reachNote(start), ...mounts, ...yamlOf(job)];
}

/**
 * One job a worker. Ray's versions quote the words of a job in different ways for the shell that runs them
 * (ray-project/ray#63797), so only words that need no quotes are handed on.
 */
function ray(start: WorkerStart): string[] {
  const { hasPassword, workers, threads, memoryGiB } = start;
  const words = withThreads(start);
  const odd = words.find((word) => shellWord(word) !== word);
  if (odd !== undefined)
    throw invalid(`Ray's versions quote ${JSON.stringify(odd)} differently; use folders whose names need no quotes`);
  const memory = memoryGiB === null ? [] : ["--entrypoint-memory", String(Math.ceil(memoryGiB * 2 ** 30))];
  const options = ["--no-wait", "--entrypoint-num-cpus", String(threads), ...memory];
  return [
    "#!/bin/sh",
    "# RAY_ADDRESS names the cluster: http://head:8265",
    ...reachNote(start),
    ...(hasPassword
      ? [
          `# The queue has a password: start Ray's nodes with REROUTE_QUEUE in their environment (${oneLine(start.queue)} with it).`,
          "# A job's own variables (--runtime-env-json) would be shown in Ray's dashboard.",
        ]
      : []),
    `for i in $(seq ${workers}); do`,
    `  ray job submit ${joined([...options, "--", ...words])}`,
    "done",
  ];
}

/** Where a folder of `--map` lies at the worker. The engine's pathMap.ts reads mappings in the same way. */
function toOf(map: string): string {
  const half = map.slice(0, (map.length - 1) / 2);
  return map === `${half}=${half}` ? half : map.slice(map.indexOf("=") + 1);
}

/** Kubernetes replaces $(NAME) in a command; $$ stands for one $. */
function withoutExpansion(word: string): string {
  return word.replaceAll("$(", "$$$$(");
}

/** For a comment: what begins a new line would begin a command. */
function oneLine(text: string): string {
  return text.replace(/[\r\n\u2028\u2029]/g, " ");
}

function invalid(problem: string): RerouteError {
  return new RerouteError("arguments/invalid", problem);
}
