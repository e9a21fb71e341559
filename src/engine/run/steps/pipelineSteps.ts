import path from "node:path";
import { studentToBuild } from "../../../protocol/denseStudent";
import type { PipelineStep, Recipe } from "../../../protocol/recipe";
import { stepFiles } from "../../../protocol/run";

/** One step of a pipeline: an ordinary run in a folder of its own below the pipeline's. */
export interface RunStep {
  /** From 1. */
  number: number;
  /** Folder name, such as "2-neurons". */
  id: string;
  name: string;
  runDirectory: string;
  recipe: Recipe;
  /** Whether its checkpoint lies in the pipeline's run folder: all but the last one's do. */
  ownsOutput: boolean;
}

/** Why a recipe's steps cannot be run, as a sentence with what to do; null where they can. */
export function stepsProblem({ steps, compress, calibrate, source, student, data }: Recipe): string | null {
  if (!steps) return null;
  if (compress || calibrate) return "The recipe has steps beside compress or calibrate; move those into a step";
  if (source !== undefined)
    return "The recipe has steps and a source; name the checkpoint that the first step starts from as student";
  if (data.splitEvaluation)
    return "The recipe has steps and splits its evaluation text off, which steps would do at different places; name an evaluation text";
  if (steps[0]!.calibrate && student === undefined)
    return "The first step calibrates, but there is no student yet; compress first, or name a student";
  if (steps[0]!.compress && studentToBuild({ student }))
    return "The first step compresses experts, and the dense student that is built first has none; calibrate first, or leave the student out";
  return null;
}

/**
 * A pipeline as runs: each on the checkpoint of the one before it, all measured against the teacher. Paths of the recipe stay
 * as they are written; those of checkpoints between steps are absolute.
 */
export function pipelineSteps(recipe: Recipe, runDirectory: string): RunStep[] {
  const { steps = [], student, compress: _compress, calibrate: _calibrate, source: _source, ...shared } = recipe;
  const { name: given, $schema: _schema, output, ...common } = shared;
  let before = student;
  return steps.map((step, i): RunStep => {
    const number = i + 1;
    const name = nameOf(step);
    const id = `${number}-${slug(name)}`;
    const directory = path.join(runDirectory, stepFiles.steps, id);
    const isLast = number === steps.length;
    const to = isLast ? output : path.join(directory, "checkpoint");
    const from = before;
    before = to;
    const on = step.calibrate ? { student: from } : typeof from === "string" ? { source: from } : {};
    const does = step.calibrate ? { calibrate: step.calibrate } : { compress: step.compress! };
    const called = `${given === undefined ? "" : `${given}: `}step ${number}, ${name}`.slice(0, 200);
    return {
      ...{ number, id, name, runDirectory: directory, ownsOutput: !isLast },
      recipe: { ...common, name: called, ...on, ...does, output: to },
    };
  });
}

/** What a step is called: its own name, or what it does. */
export function nameOf({ name, compress }: PipelineStep): string {
  return name ?? compress?.method ?? "calibrate";
}

function slug(name: string): string {
  return (
    name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-+|-+$/g, "")
      .slice(0, 40) || "step"
  );
}
