import { readFile, rm } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { contentKey } from "../../checkpoint/contentKey";
import { mappingOfMade } from "../../compression/plan/expertMapping";
import { textRead, type TokenSequences } from "../../data/sequences";
import { comparePair, perSequenceOf } from "../../evaluation/comparePair";
import { readChoiceItems } from "../../data/choiceItems";
import { hashTextFiles } from "../../data/textFiles";
import type { TaskToEvaluate } from "../../evaluation/multipleChoice";
import { sharedText } from "../../data/sharedText";
import { probeBudgetOfEach } from "../../evaluation/expertProbe";
import { measuredTokens } from "../../evaluation/speed/measureSpeed";
import { TeacherRuns } from "../../evaluation/teacherRuns";
import { valuesByToken } from "../../evaluation/tokenValues";
import {
  evaluationFile,
  modelEvaluation,
  type EvaluationFile,
  type ModelEvaluation,
} from "../../../protocol/evaluation";
import { tokenValues, type TokenValues } from "../../../protocol/evaluationTokens";
import { readDistillation, updateDistillation } from "../folder/distillationFile";
import { removeEvaluationState } from "../folder/leftovers";
import { baseProcessBytes, planExecution } from "../../execution/memoryPlan";
import { usualActiveExperts, withActiveExperts } from "../../model/activeExperts";
import type { ModelDescription } from "../../model/description";
import { flopsPerToken } from "../../model/parameters";
import { evaluatedActivations, type Recipe } from "../../../protocol/recipe";
import type { ActivationType } from "../../../protocol/calibrateOptions";
import {
  beyond,
  layerThreadsMemory,
  numExpertsOf,
  stateBytesOf,
  streamingMemory,
  recipeTokens,
  type ForecastInput,
} from "./forecast";
import type { Stage, StageContext } from "./stage";
import { shareOf, trainedOnBy } from "../trainedOn";
import { evaluationSequencesOf, measuredBefore, textParts } from "./data";
import type { ReportProgress } from "../../../protocol/progress";
import { writeEvaluationTokens } from "./evaluationTokens";
import { leafTiles } from "../tiles/tileCuts";
import { fileExists, readProvenance } from "./outputs";

const roles = ["teacher", "before", "after"] as const;
type Role = (typeof roles)[number];

/** The same held-out sequences through teacher, compressed student and calibrated student: evaluation.json. */
export const evaluateStage: Stage = {
  id: "evaluate",
  inputs: async (context) => {
    const fingerprints: Record<string, string> = {};
    for (const [role, directory] of checkpointsOf(context)) {
      fingerprints[role] = (await context.models.model(directory)).fingerprint;
    }
    return {
      version: 4,
      checkpoints: fingerprints,
      text: textRead(await evaluationSequencesOf(context)),
      seed: context.run.recipe.seed,
      ...roundedBy(context.run.recipe),
      ...(context.run.recipe.measureSpeed ? { measureSpeed: true } : {}),
      ...(context.run.recipe.data.activeExperts ? { activeExperts: context.run.recipe.data.activeExperts } : {}),
      ...(context.paths.task === null ? {} : { task: await hashTextFiles(context.paths.task) }),
    };
  },
  hasOutputs: async ({ paths, run }) =>
    (await fileExists(paths.file("evaluation"))) &&
    (run.recipe.data.activeExperts === undefined || (await readDistillation(paths.runDirectory))?.probe != null),
  discard: async (context) => {
    for (const file of ["evaluation", "evaluationTokens"] as const) await rm(context.paths.file(file), { force: true });
    if (context.run.recipe.data.activeExperts) await updateDistillation(context.paths.runDirectory, { probe: null });
    await removeParts(context);
  },
  run: async (context) => {
    const { paths, run } = context;
    const { sequenceLength } = run.recipe.data;
    const sequences = await evaluationSequencesOf(context, true);
    const trainedOn = await trainedShares(context);
    const task = await taskOf(context);
    const parts: Record<Role, ModelEvaluation | null> = { teacher: null, before: null, after: null };
    const tokens: Record<Role, TokenValues | null> = { teacher: null, before: null, after: null };
    const teacherRuns = new TeacherRuns();
    try {
      const checkpoints = checkpointsOf(context);
      for (const [i, [role, directory]] of checkpoints.entries()) {
        const report = inPass(context, role, { number: i + 1, of: checkpoints.length });
        const part = await evaluatePart({ ...context, report }, role, directory, sequences, task, teacherRuns);
        parts[role] = part.evaluation;
        tokens[role] = part.tokens ?? null;
      }
    } finally {
      teacherRuns.close();
    }
    await probe(context, sequences);
    // Of a run without students, the teacher is what is measured.
    const shares = { teacher: parts.before ? 0 : trainedOn.before, ...trainedOn };
    for (const role of roles)
      if (parts[role] && shares[role] > 0) parts[role] = { ...parts[role], trainedOn: shares[role] };
    const file: EvaluationFile = {
      schemaVersion: 1,
      data: {
        path: paths.evaluationData!,
        sha256: sequences.sourceSha256,
        sequences: sequences.numSequences,
        sequenceLength,
        perSequence: perSequenceOf(sequences),
      },
      ...parts,
      comparison:
        parts.before && parts.after
          ? {
              ...comparePair(parts.before, parts.after, perSequenceOf(sequences), run.recipe.seed),
              ...(trainedOn.after > 0 ? { trainedOn: trainedOn.after } : {}),
            }
          : null,
    };
    await writeEvaluationTokens(context, sequences, tokens);
    await writeFileAtomically(paths.file("evaluation"), `${JSON.stringify(file, null, 2)}\n`);
    await removeParts(context);
  },
  forecast: (input) => {
    const { recipe, time, measured } = input;
    const tokens = recipeTokens(recipe).evaluation;
    const timed = recipe.measureSpeed ? measuredTokens : 0;
    const models = 1 + (recipe.compress || recipe.student ? 1 : 0) + (recipe.calibrate ? 1 : 0);
    const probed = probedPasses(recipe, input.teacher);
    const teacherSeconds =
      time.evaluation(tokens + timed, "teacher") + (probed > 0 ? time.evaluation(tokens * probed, "student") : 0);
    const assumption = `${models} checkpoints over ${tokens} tokens${probed > 0 ? `, and as much as ${probed.toFixed(1)} passes of the teacher by its active experts` : ""}; ${measured}`;
    const { evaluationSequences, sequenceLength } = recipe.data;
    const parts = leafTiles(evaluationSequences, sequenceLength, 1).length;
    const shared = time.evaluation(tokens, "teacher") + (models - 1) * time.evaluation(tokens, "student");
    return {
      seconds: teacherSeconds + (models - 1) * time.evaluation(tokens + timed, "student"),
      teacherSeconds,
      spread: [{ seconds: shared, parts, limit: `the text has ${parts} ${parts === 1 ? "tile" : "tiles"}` }],
      peakMemoryBytes: Math.max(
        streamingMemory(input, { tokens, allTokens: models * tokens }) + layerThreadsMemory(input, tokens),
        probed > 0 ? probeMemory(input, tokens, models > 1) : 0,
      ),
      assumption,
    };
  },
  // The teacher's states and routing, and the states to go on from of both passes, old and new.
  scratch: ({ recipe, teacher, memoryBudgetBytes }) => {
    const { hiddenStateBytes } = planExecution(teacher, recipe.data.sequenceLength, memoryBudgetBytes, "forward");
    const tokens = recipeTokens(recipe).evaluation;
    const rows = stateBytesOf(teacher, tokens);
    const logits = teacher.layers.reduce((sum, { feedForward }) => sum + numExpertsOf(feedForward), 0);
    const taught = rows + 4 * tokens * logits;
    const spilled = beyond(taught, hiddenStateBytes / 4) + beyond(rows, hiddenStateBytes) + taught + 3 * rows;
    return { kept: 0, spilled };
  },
  complete: removeParts,
};

/**
 * Share of the evaluation text that calibration reads here, or has read before: the pre-flight lets it pass when it is told to.
 */
async function trainedShares({ run, paths, signal }: StageContext): Promise<{ before: number; after: number }> {
  const { recipe } = run;
  const parts = textParts(recipe, paths);
  const measured = measuredBefore(recipe, paths);
  const before = measured === null ? 0 : shareOf(await trainedOnBy(measured, parts[0], signal));
  if (recipe.calibrate === undefined || recipe.data.splitEvaluation) return { before, after: before };
  const found = await sharedText(...parts, signal);
  return { before, after: Math.max(before, shareOf([{ training: parts[1].path, found }])) };
}

/** Passes under the teacher's own routing that probing costs, its own and a student's among them. */
function probedPasses({ data }: Recipe, teacher: ModelDescription): number {
  if (data.activeExperts === undefined) return 0;
  const active = data.activeExperts.length > 0 ? data.activeExperts : usualActiveExperts(teacher);
  const work = (model: ModelDescription) => flopsPerToken(model, data.sequenceLength);
  return 2 + active.reduce((sum, n) => sum + work(withActiveExperts(teacher, n)), 0) / work(teacher);
}

/** Models that are open at once, each with its part of the budget and its hidden states, as large as the teacher. */
function probeMemory(input: ForecastInput, tokens: number, hasStudent: boolean): number {
  const memoryBudgetBytes = probeBudgetOfEach(input.memoryBudgetBytes, hasStudent);
  const each = streamingMemory({ ...input, memoryBudgetBytes }, { tokens, allTokens: 2 * tokens });
  return baseProcessBytes + (hasStudent ? 3 : 2) * (each - baseProcessBytes);
}

/** By the teacher's active experts, where the recipe asks for it, with the last student that there is. */
async function probe(context: StageContext, sequences: TokenSequences): Promise<void> {
  const { models, paths, work, runtime, signal, report } = context;
  const active = context.run.recipe.data.activeExperts;
  if (active === undefined) return;
  const [role, directory] = checkpointsOf(context).at(-1)!;
  const teacher = await models.model(paths.teacher);
  const student = role === "teacher" ? null : await models.model(directory);
  const of = { runtime, signal, report, teacher, student, sequences, active };
  await updateDistillation(paths.runDirectory, {
    probe: await work.probeExperts({ ...of, stateDirectory: paths.runDirectory }),
  });
}

/** The recipe's multiple-choice items; null where it names none. */
async function taskOf({ paths, models }: StageContext): Promise<TaskToEvaluate | null> {
  if (paths.task === null) return null;
  return {
    path: paths.task,
    items: await readChoiceItems(paths.task),
    tokenizer: await models.tokenizer(paths.tokenizer),
  };
}

/** What an interrupted evaluation goes on with. */
async function removeParts(context: StageContext): Promise<void> {
  for (const role of roles) await rm(partFile(context, role), { force: true });
  await removeEvaluationState(context.paths.runDirectory, "all");
}

/** evaluation.json of a run; null where there is none that can be read. */
export async function readEvaluation(file: string): Promise<EvaluationFile | null> {
  try {
    const parsed = evaluationFile.safeParse(JSON.parse(await readFile(file, "utf8")));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

function checkpointsOf({ run, paths }: StageContext): [Role, string][] {
  const { calibrate } = run.recipe;
  return [
    ["teacher", paths.teacher],
    ...(hasStudent({ run }) ? [["before", paths.student] as [Role, string]] : []),
    ...(calibrate ? [["after", paths.output] as [Role, string]] : []),
  ];
}

function hasStudent({ run }: Pick<StageContext, "run">): boolean {
  return run.recipe.compress !== undefined || run.recipe.student !== undefined;
}

/** What a student's activations are rounded to; a teacher's stay, but of one that is measured alone. */
function roundedBy(recipe: Recipe): { activations?: ActivationType } {
  const activations = evaluatedActivations(recipe);
  return activations === undefined ? {} : { activations };
}

/** Names the model that is evaluated, and which of them it is. */
function inPass({ run, report }: StageContext, role: Role, pass: { number: number; of: number }): ReportProgress {
  const student = run.recipe.calibrate ? `the student ${role} calibration` : "the student";
  const message = `Evaluating ${role === "teacher" ? "the teacher" : student}`;
  return (progress) =>
    report({ ...progress, message: pass.of > 1 ? `${message}, ${pass.number} of ${pass.of}` : message, pass });
}

/** One model; kept in a file of its own, so that an interrupted evaluation does not measure it again. */
async function evaluatePart(
  context: StageContext,
  role: Role,
  directory: string,
  sequences: TokenSequences,
  task: TaskToEvaluate | null,
  teacherRuns: TeacherRuns,
): Promise<Part> {
  const { models, paths, work, runtime, signal, report } = context;
  const model = await models.model(directory);
  const teacher = role === "teacher" ? null : await models.model(paths.teacher);
  const { measureSpeed = false } = context.run.recipe;
  const rounded = role === "teacher" && hasStudent(context) ? {} : roundedBy(context.run.recipe);
  const key = contentKey({
    role,
    model: model.fingerprint,
    teacher: teacher?.fingerprint,
    text: textRead(sequences),
    ...rounded,
    ...(measureSpeed ? { measureSpeed } : {}),
    ...(task ? { task: task.items } : {}),
  });
  const known = await readPart(partFile(context, role), key);
  if (known) return known;
  let tokens: TokenValues | undefined;
  const evaluation = await work.evaluate({
    runtime,
    signal,
    report,
    model,
    teacher,
    sequences,
    ...rounded,
    measureSpeed,
    ...(task ? { task } : {}),
    expertMapping: teacher && mappingOfMade(teacher.description, await readProvenance(directory)),
    stateDirectory: paths.runDirectory,
    keepsState: true,
    teacherRuns,
    onRows: (rows) => {
      if (teacher) tokens = valuesByToken(rows);
    },
  });
  const part = { key, evaluation, ...(tokens ? { tokens } : {}) };
  await writeFileAtomically(partFile(context, role), `${JSON.stringify(part)}\n`);
  await removeEvaluationState(paths.runDirectory, "student");
  return part;
}

interface Part {
  evaluation: ModelEvaluation;
  /** Of a student: its first tokens; absent where another run's evaluation was taken over. */
  tokens?: TokenValues | undefined;
}

async function readPart(file: string, key: string): Promise<Part | null> {
  try {
    const parsed = z
      .object({ key: z.literal(key), evaluation: modelEvaluation, tokens: tokenValues.optional() })
      .safeParse(JSON.parse(await readFile(file, "utf8")));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

function partFile({ paths }: StageContext, role: Role): string {
  return path.join(paths.runDirectory, `evaluation-${role}.json`);
}
