/** A workspace with finished runs, made by the command line: what the panels are looked at with. */
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import type { EvaluationFile } from "../../src/protocol/evaluation";
import type { RunFile } from "../../src/protocol/run";

export interface RunSize {
  sequences: number;
  sequenceLength: number;
  evaluationSequences: number;
  epochs: number;
  evaluateEvery: number;
}

/** A run of seconds, with a few updates and held-out looks. */
export const small: RunSize = {
  sequences: 48,
  sequenceLength: 64,
  evaluationSequences: 16,
  epochs: 1,
  evaluateEvery: 2,
};

/** The sample's recipe. */
export const whole: RunSize = {
  sequences: 512,
  sequenceLength: 256,
  evaluationSequences: 96,
  epochs: 2,
  evaluateEvery: 10,
};

/** The sample checkpoint as `fine`, its texts, and the texts' folder. */
export function sampleWorkspace(workspace: string): void {
  cpSync("media/sample/checkpoint", path.join(workspace, "fine"), { recursive: true });
  mkdirSync(path.join(workspace, "texts"));
  for (const text of ["calibration.jsonl", "evaluation.jsonl"])
    cpSync(`media/sample/${text}`, path.join(workspace, "texts", text));
}

/** Writes a recipe for `fine` beside it; returns its path. */
export function writeRecipe(workspace: string, name: string, method: string, size: RunSize): string {
  const { sequences, sequenceLength, evaluationSequences, epochs, evaluateEvery } = size;
  const recipe = path.join(workspace, `${name}.reroute.json`);
  const content = {
    schemaVersion: 1,
    name: `fine ${name} 12 of 32`,
    teacher: "fine",
    data: {
      calibration: "texts/calibration.jsonl",
      evaluation: "texts/evaluation.jsonl",
      sequences,
      evaluationSequences,
      sequenceLength,
    },
    compress: { method, keep: 0.375 },
    calibrate: { learningRate: 3e-3, epochs, evaluateEvery },
    output: `fine-${name}-calibrated`,
  };
  writeFileSync(recipe, `${JSON.stringify(content, null, 2)}\n`);
  return recipe;
}

/** Runs a recipe to its end with the command line; returns its run folder. */
export async function finishedRun(workspace: string, id: string, method: string, size: RunSize): Promise<string> {
  const runDirectory = path.join(workspace, ".reroute", "runs", id);
  const recipe = writeRecipe(workspace, method, method, size);
  await promisify(execFile)(process.execPath, ["dist/cli.js", "run", recipe, "--run", runDirectory]);
  return runDirectory;
}

/** Compares two methods at one ratio, without calibration, with the command line; returns the comparison's folder. */
export async function finishedComparison(workspace: string, name: string): Promise<string> {
  const directory = path.join(workspace, ".reroute", "runs", name);
  const file = path.join(workspace, `${name}.compare.reroute.json`);
  const { sequences, sequenceLength, evaluationSequences } = small;
  const content = {
    schemaVersion: 1,
    name: "fine compared",
    teacher: "fine",
    data: {
      ...{ calibration: "texts/calibration.jsonl", evaluation: "texts/evaluation.jsonl" },
      ...{ sequences, evaluationSequences, sequenceLength },
    },
    grid: { methods: ["reap", "frequency"], keep: [0.625] },
  };
  writeFileSync(file, `${JSON.stringify(content, null, 2)}\n`);
  await promisify(execFile)(process.execPath, ["dist/cli.js", "compare", file, "--dir", directory]);
  return directory;
}

/** A second run for charts over runs: a copy with another name and other, made-up results. */
export function copyOfRun(run: string, id: string, name: string, scale: number): string {
  const copy = path.join(path.dirname(run), id);
  cpSync(run, copy, { recursive: true });
  const runFile = path.join(copy, "run.json");
  const original = JSON.parse(readFileSync(runFile, "utf8")) as RunFile;
  writeFileSync(runFile, JSON.stringify({ ...original, id, name }));
  const evaluationFile = path.join(copy, "evaluation.json");
  const evaluation = JSON.parse(readFileSync(evaluationFile, "utf8")) as EvaluationFile;
  for (const model of [evaluation.before!, evaluation.after!]) {
    model.klToTeacher! *= scale;
    model.cost.bytes = Math.round(model.cost.bytes * scale);
  }
  writeFileSync(evaluationFile, JSON.stringify(evaluation));
  return copy;
}
