import { spawn, type ChildProcess } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";
import { nodeBundle, queueApart, queueClients } from "../../scripts/nodeBundle.mjs";
import { expect } from "vitest";
import type { EvaluationFile } from "../../src/protocol/evaluation";
import { recipeSchema, type Recipe } from "../../src/protocol/recipe";
import { runFile, type StageId } from "../../src/protocol/run";
import { makeCheckpoint } from "../bench/makeCheckpoint";
import type { StepKiller } from "./killAtStep";

/** The command line, bundled as it ships. */
export async function bundleCli(): Promise<string> {
  return bundle("src/cli/main.ts", "cli");
}

/** The queue's clients beside it, which it loads by that name. */
export async function bundleQueueClients(): Promise<string> {
  return bundle(queueClients.entry, queueClients.name);
}

const bundles = new Map<string, Promise<string>>();

/**
 * Inside the project, so that the bundle finds onnxruntime-node. All test files of a process share it; those of processes that have
 * ended are removed.
 */
function bundle(entry: string, name: string): Promise<string> {
  const made = bundles.get(name) ?? makeBundle(entry, placeOf(name));
  bundles.set(name, made);
  return made;
}

async function makeBundle(entry: string, outfile: string): Promise<string> {
  const folder = path.dirname(outfile);
  for (const file of existsSync(folder) ? readdirSync(folder) : []) {
    const owner = /^reroute-faults-\D+-(\d+)\.cjs$/.exec(file)?.[1];
    if (owner !== undefined && !isAlive(Number(owner))) rmSync(path.join(folder, file), { force: true });
  }
  const plugins = [...nodeBundle.plugins.slice(0, -1), queueApart(path.basename(placeOf(queueClients.name)))];
  await build({ ...nodeBundle, plugins, entryPoints: [entry], outfile });
  return outfile;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function placeOf(name: string): string {
  return path.resolve(`node_modules/.cache/reroute-faults-${name}-${process.pid}.cjs`);
}

/** The engine process that the extension forks, bundled as it ships. */
export async function bundleEngine(): Promise<string> {
  return bundle("src/engine/main.ts", "engine");
}

/** A whole recipe on a model of two layers and eight experts; a second or two of work. */
export class TinyRun {
  readonly recipe: string;
  readonly runDirectory: string;
  readonly output: string;

  /**
   * @param parent a folder that `makeParent` filled
   * @param more keys of the recipe in place of REAP pruning and a short calibration; undefined leaves one out
   */
  constructor(
    readonly cli: string,
    readonly parent: string,
    readonly more: Record<string, unknown> = {},
  ) {
    this.recipe = path.join(parent, "work", "tiny.reroute.json");
    this.runDirectory = path.join(parent, "work", "run");
    this.output = path.join(parent, "work", "out");
    this.reset();
  }

  /** The teacher that all runs in this folder share. */
  static async makeParent(parent: string): Promise<void> {
    await makeCheckpoint({
      directory: path.join(parent, "teacher"),
      family: "qwen3_moe",
      shape: {
        ...{ hiddenSize: 32, numLayers: 2, numExperts: 8, numExpertsPerToken: 2, moeIntermediateSize: 24 },
        ...{ vocabSize: 2048, numHeads: 2, numKeyValueHeads: 1, headDim: 16, maxPositionEmbeddings: 128 },
      },
      deviation: 0.3,
      tokenizerFrom: "media/sample/checkpoint",
    });
    for (const name of ["calibration.jsonl", "evaluation.jsonl"])
      cpSync(path.join("media/sample", name), path.join(parent, name));
  }

  /** What the extension asks its engine for. */
  request(): { runDirectory: string; recipe: Recipe; baseFolder: string } {
    const recipe = recipeSchema.parse(JSON.parse(readFileSync(this.recipe, "utf8")));
    return { runDirectory: this.runDirectory, recipe, baseFolder: path.dirname(this.recipe) };
  }

  /** Away with the run and its output: the next one begins anew, at the same paths, so that its bytes can be compared. */
  reset(): void {
    const folder = path.dirname(this.recipe);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    const recipe = {
      schemaVersion: 1,
      teacher: "../teacher",
      data: {
        ...{ calibration: "../calibration.jsonl", evaluation: "../evaluation.jsonl" },
        ...{ sequences: 12, evaluationSequences: 6, sequenceLength: 24 },
      },
      compress: { method: "reap", keep: 0.5 },
      calibrate: { batch: 2, learningRate: 5e-3, heldOut: 0.2, evaluateEvery: 2 },
      output: "out",
      threads: 1,
      memory: "1GiB",
      ...this.more,
    };
    writeFileSync(this.recipe, JSON.stringify(recipe));
  }

  /**
   * One process that works on the run. `onStart` gets its number at once; `limits` are shell commands in front of it, such
   * as `ulimit -f 100`; `onSaid` gets what it has said so far, whenever it says more; `preload` are scripts that go first in the process, and change what they find there, by `env`.
   */
  start(
    options: {
      limits?: string;
      preload?: string | readonly string[];
      env?: Record<string, string>;
      /** More arguments of the command. */
      args?: readonly string[];
      onStart?: (pid: number) => void;
      onSaid?: (stderr: string, child: ChildProcess) => void;
    } = {},
  ): Promise<Outcome> {
    const { limits, preload = [], onStart, onSaid } = options;
    const env = { ...process.env, ...options.env };
    const before = [preload].flat().flatMap((script) => ["--require", script]);
    const args = [...before, this.cli, "run", this.recipe, "--run", this.runDirectory, ...(options.args ?? [])];
    const command = [process.execPath, ...args].map((word) => `'${word}'`).join(" ");
    const child = limits
      ? spawn("bash", ["-c", `${limits}; exec ${command}`], { stdio: ["ignore", "pipe", "pipe"], env })
      : spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"], env });
    let stderr = "";
    child.stdout.resume();
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      onSaid?.(stderr, child);
    });
    onStart?.(child.pid!);
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve({ code, signal, stderr }));
    });
  }

  /** The stage that is under way or comes next; null before run.json and when all is done. */
  stage(): StageId | null {
    try {
      const { stages } = runFile.parse(JSON.parse(readFileSync(path.join(this.runDirectory, "run.json"), "utf8")));
      return stages.find(({ state }) => state !== "done" && state !== "skipped")?.id ?? null;
    } catch {
      return null;
    }
  }

  /**
   * Everything the run is for: checkpoint, plan, statistics, training state and numbers. Times, memory and speed are
   * measured, not computed, and left out; so is the log.
   */
  results(): Record<string, string> {
    const files = filesBelow(this.runDirectory).filter(
      (name) => !/^workers\.jsonl?$/.test(name) && (name !== "metrics.jsonl" || this.more["compress"] === undefined),
    );
    const results: Record<string, string> = { "files of the run": files.sort().join("\n") };
    const keep = (folder: string, name: string) =>
      (results[name] = readFileSync(path.join(folder, name)).toString("latin1"));
    for (const name of filesBelow(this.output)) keep(this.output, name);
    for (const name of filesBelow(this.runDirectory)) {
      if (/safetensors$|compression-plan|compressed|(distillation|dense-student)\.json$/.test(name))
        keep(this.runDirectory, name);
    }
    const text = (name: string) => readFileSync(path.join(this.runDirectory, name), "utf8");
    // Without a calibration there may be none.
    const metrics = existsSync(path.join(this.runDirectory, "metrics.jsonl")) ? text("metrics.jsonl") : "";
    results["metrics.jsonl"] = metrics
      .trimEnd()
      .split("\n")
      .filter((line) => !line.includes('"resources"'))
      .map((line) => line.replace(/"(seconds|teacherSeconds|writingSeconds)":[^,}]+/g, ""))
      .join("\n");
    const evaluation = JSON.parse(text("evaluation.json")) as EvaluationFile;
    const steps = (evaluation.steps ?? []).map((step) => step.evaluation);
    for (const part of [evaluation.teacher, evaluation.before, evaluation.after, ...steps]) {
      if (part) Object.assign(part.cost, { tokensPerSecond: 0, tokensPerSecondQuartiles: null, peakMemoryBytes: 0 });
    }
    results["evaluation.json"] = JSON.stringify(evaluation);
    return results;
  }
}

/**
 * Kills a run before each of these steps at the disk (stepKiller), some of them in what an earlier kill left, and lets it end in
 * between: it then has the results of an undisturbed one. `killed` is called after every kill.
 */
export async function killAtSteps(
  run: TinyRun,
  killer: StepKiller,
  steps: readonly number[],
  expected: Record<string, string>,
  killed: () => void = () => undefined,
): Promise<void> {
  for (const [i, step] of steps.entries()) {
    const { signal } = await run.start({ preload: killer.preload, env: { [killer.variable]: String(step) } });
    if (signal !== null) {
      expect(signal).toBe("SIGKILL");
      killed();
      // Every other one is killed again in what it left.
      if (i % 2 === 0 && i + 1 < steps.length) continue;
    }
    const { code, stderr } = await run.start();
    expect([code, stderr]).toEqual([0, expect.anything()]);
    expect(run.results()).toEqual(expected);
    run.reset();
  }
}

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stderr: string;
}

/** Paths of all files below a folder, relative to it. */
export function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
    statSync(path.join(folder, name)).isFile(),
  );
}
