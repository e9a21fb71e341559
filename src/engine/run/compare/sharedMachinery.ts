import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import type { z } from "zod";
import { denseStudentFile } from "../../../protocol/denseStudent";
import { modelEvaluation } from "../../../protocol/evaluation";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { contentKey } from "../../checkpoint/contentKey";
import { iteratesSubspaces } from "../../compression/cost/methodCost";
import { textRead } from "../../data/sequences";
import { linkFile } from "../folder/linkFile";
import type { Stage } from "../stages/stage";
import type { RunMachinery } from "../runRequest";
import type { HeavyWork, MachineProbe } from "../work";

/**
 * A run's machinery that keeps what cells of one comparison have in common in a folder: the profile, the teacher's targets,
 * the teacher's own evaluation and its pass over the held-out text. Each file is named by a hash of what it was made from, so a cell with other inputs
 * never gets it. The machine is measured once.
 *
 * @param sharesStudents also keeps what was measured of students: the steps of a pipeline meet each checkpoint twice
 */
export function sharedMachinery(
  { stages, work }: RunMachinery,
  directory: string,
  sharesStudents = false,
): RunMachinery {
  return {
    stages: { ...stages, profile: sharedProfile(stages.profile, directory) },
    work: {
      ...work,
      measureDense: sharedDense(work.measureDense, directory),
      calibrate: sharedTargets(work.calibrate, directory),
      evaluate: sharedEvaluation(work.evaluate, directory, sharesStudents),
      probe: onceEach(work.probe),
    },
  };
}

function sharedProfile(stage: Stage, directory: string): Stage {
  return {
    ...stage,
    run: async (context) => {
      const own = context.paths.file("statistics");
      const shared = path.join(directory, `routing-statistics-${shortKey(await stage.inputs(context))}.safetensors`);
      if (await linkFile(shared, own)) return;
      await stage.run(context);
      await linkFile(own, shared);
    },
  };
}

const targetNames = /^teacher-targets-[0-9a-f]+\.f32(\.json)?$/;

/** Targets of other sequences or another teacher have other names; the calibration only reads those of its own. */
function sharedTargets(calibrate: HeavyWork["calibrate"], directory: string): HeavyWork["calibrate"] {
  return async (p) => {
    await linkTargets(directory, p.stateDirectory);
    const result = await calibrate(p);
    await linkTargets(p.stateDirectory, directory);
    return result;
  };
}

/**
 * The file that says how far the targets got goes first: without the targets it says nothing, while targets without it
 * would be written again in place, under the eyes of every other cell.
 */
async function linkTargets(from: string, to: string): Promise<void> {
  const names = (await readdir(from)).filter((name) => targetNames.test(name));
  const isComplete = (name: string): boolean => names.includes(name) && names.includes(`${name}.json`);
  for (const name of names.filter((n) => n.endsWith(".f32") && isComplete(n))) {
    await linkFile(path.join(from, `${name}.json`), path.join(to, `${name}.json`));
    await linkFile(path.join(from, name), path.join(to, name));
  }
}

/** The teacher's numbers, and its pass over the text, which every student is compared with. */
function sharedEvaluation(
  work: HeavyWork["evaluate"],
  directory: string,
  sharesStudents: boolean,
): HeavyWork["evaluate"] {
  const evaluate: HeavyWork["evaluate"] = (p) => work({ ...p, teacherDirectory: directory });
  return async (p) => {
    if (p.teacher !== null && !sharesStudents) return evaluate(p);
    const { threads, provider } = p.runtime;
    const against = p.teacher && { teacher: p.teacher.fingerprint, experts: p.expertMapping };
    const task = p.task && { task: p.task.items, vocabulary: p.task.tokenizer.vocabularyHash };
    const text = textRead(p.sequences);
    const key = shortKey({ model: p.model.fingerprint, text, threads, provider, ...against, ...task });
    const file = path.join(directory, `${p.teacher ? "student" : "teacher"}-evaluation-${key}.json`);
    return keptOnce(file, modelEvaluation, () => evaluate(p));
  };
}

/** What a dense student is made of: every cell that builds the same one writes it for itself. */
function sharedDense(measure: HeavyWork["measureDense"], directory: string): HeavyWork["measureDense"] {
  return async (p) => {
    const { threads, provider } = p.runtime;
    const of = { teacher: p.teacher.fingerprint, text: textRead(p.sequences), build: p.build, threads, provider };
    const file = path.join(directory, `dense-student-${shortKey(of)}.json`);
    return keptOnce(file, denseStudentFile.shape.layers, () => measure(p));
  };
}

/** What a file of the shared folder holds; made and written where it is not there. */
async function keptOnce<T>(file: string, schema: z.ZodType<T>, make: () => Promise<T>): Promise<T> {
  try {
    return schema.parse(JSON.parse(await readFile(file, "utf8")));
  } catch {
    const made = await make();
    await writeFileAtomically(file, `${JSON.stringify(made)}\n`);
    return made;
  }
}

function onceEach(probe: HeavyWork["probe"]): HeavyWork["probe"] {
  const known = new Map<string, MachineProbe>();
  return async (p) => {
    const rates = p.method !== undefined && iteratesSubspaces(p.method);
    const key = JSON.stringify([p.model.fingerprint, p.sequenceLength, p.runtime.threads, p.runtime.provider, rates]);
    const measured = known.get(key) ?? (await probe(p));
    known.set(key, measured);
    return measured;
  };
}

function shortKey(value: unknown): string {
  return contentKey(value).slice(0, 16);
}
