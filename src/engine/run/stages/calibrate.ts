import { rm } from "node:fs/promises";
import { completeOutput } from "../../checkpoint/outputFolder";
import { tokenizerDifference } from "../../data/sameTokenizer";
import { hasExperts } from "../../model/requireExperts";
import { mappingOfMade } from "../../compression/plan/expertMapping";
import { heldOutCount, splitHeldOut } from "../../data/heldOutSplit";
import { tokensRead } from "../../data/sequences";
import { RerouteError } from "../../../protocol/errors";
import { readDistillation, routerKlOfLooks, updateDistillation } from "../folder/distillationFile";
import { removeTeacherTargets } from "../folder/leftovers";
import { readMetrics } from "../folder/metricsFile";
import { teacherRoutes } from "../../distillation/teacherRouting";
import { flopsPerToken } from "../../model/parameters";
import { withTextDefaults } from "../../distillation/onPolicyOptions";
import { matchesRouterLogits } from "../../distillation/calibration";
import { budgetOfEach, modelsAtOnce } from "../../distillation/besideStudent";
import { baseProcessBytes, planExecution, tapedBytesPerToken } from "../../execution/memoryPlan";
import type { ModelDescription } from "../../model/description";
import type { CalibrateOptions } from "../../../protocol/calibrateOptions";
import type { Recipe } from "../../../protocol/recipe";
import {
  beyond,
  layerThreadsMemory,
  learnerOf,
  recipeTokens,
  stateBytesOf,
  streamingMemory,
  threadsMemory,
  type ForecastInput,
  type SpreadShare,
} from "./forecast";
import type { Stage, StageContext } from "./stage";
import { batchParts, heldOutTiles, spreadsUpdates, targetTiles } from "../tiles/tileCuts";
import type { OpenModel } from "../work";
import { partSequences, trainsByParts } from "../../distillation/sideBySide/batchUpdates";
import { readSequences, sequencesOf, textTrainedOn } from "./data";
import { isFinishedCheckpoint, provenanceOf, readProvenance, requireNewOutput } from "./outputs";

/** Router KD: trains the student's routers (or more of it) against the teacher and writes the calibrated checkpoint to the output folder. */
export const calibrateStage: Stage = {
  id: "calibrate",
  inputs: async (context) => {
    const { paths, run } = context;
    const [teacher, student] = [await context.models.model(paths.teacher), await context.models.model(paths.student)];
    return {
      version: 3,
      teacher: teacher.fingerprint,
      student: student.fingerprint,
      options: optionsOf(context),
      seed: run.recipe.seed,
      tokens: tokensRead(
        await sequencesOf(context, paths.calibrationData, sequenceCount(context) + spareCount(context)),
      ),
      sequences: run.recipe.data.sequences,
      output: paths.output,
    };
  },
  hasOutputs: async ({ paths, runId }) => isFinishedCheckpoint(paths.output, runId),
  discard: async ({ paths }) => {
    await rm(paths.file("trainState"), { force: true });
    await rm(paths.file("metrics"), { force: true });
    if (await readDistillation(paths.runDirectory)) await updateDistillation(paths.runDirectory, { routerKl: null });
  },
  run: async (context) => {
    const { paths, run, work, runtime, signal, report, onMetrics, runId } = context;
    const options = optionsOf(context);
    const teacher = await context.models.model(paths.teacher);
    const student = await context.models.model(paths.student);
    await checkOrigin(context, student, teacher);
    await requireNewOutput(context, "the calibration would write its result there");
    const { sequences } = run.recipe.data;
    const all = await readSequences(context, paths.calibrationData, sequenceCount(context), spareCount(context));
    const { training, heldOut, sharesDocument } = splitHeldOut(all, sequences, options.heldOut, options.maxHeldOut);
    if (sharesDocument)
      await context.warn(
        `The held-out sequences of ${paths.calibrationData} continue a document that training reads, since no other document begins behind it; held-out figures may be too good. Separate documents, or add text`,
      );
    const compressed = await readProvenance(student.checkpoint.directory);
    const plan = compressed?.plan ?? null;
    context.models.forget(paths.output);
    const { trained } = await work.calibrate({
      runtime,
      signal,
      report,
      student,
      teacher,
      training,
      heldOut,
      options,
      expertMapping: mappingOfMade(teacher.description, compressed),
      seed: run.recipe.seed,
      stateDirectory: paths.runDirectory,
      onMetrics,
      onResume: (step) => context.rewindMetrics(step),
      output: {
        directory: paths.output,
        runId,
        provenance: {
          ...{ schemaVersion: 1, plan, ...provenanceOf(run) },
          ...(compressed?.sourceExperts ? { sourceExperts: compressed.sourceExperts } : {}),
          trainedOn: [...(compressed?.trainedOn ?? []), await textTrainedOn(context)],
        },
      },
    });
    const routerKl = routerKlOfLooks(await readMetrics(paths.file("metrics")), teacher.description);
    if (routerKl) await updateDistillation(paths.runDirectory, { routerKl });
    await context.recordTrained(trained);
  },
  forecast: (input) => {
    const { recipe, teacher, bytesAfter, trained, time, measured } = input;
    const { epochs = 0, batch = 0, evaluateEvery = 1 } = recipe.calibrate ?? {};
    const tokens = recipeTokens(recipe);
    const updates = totalUpdates(recipe);
    const evaluations = 1 + Math.ceil(updates / evaluateEvery);
    const taught = isTaught(recipe) ? tokens.calibration : 0;
    const passes = teacherPasses(recipe, teacher);
    const beside =
      besidePasses(recipe) * tokens.calibration * epochs + evaluations * lookedAtRouters(recipe, tokens.heldOut);
    const teacherSeconds = time.targets(taught * passes + tokens.heldOut) + time.pass(beside * passes, "forward");
    const inMemory = {
      tokens: batch * recipe.data.sequenceLength,
      allTokens: taught + tokens.heldOut + 2 * tokens.calibration * epochs,
    };
    const heldOutSeconds = time.looks(evaluations, tokens.heldOut);
    const writing = writingSeconds(input, updates);
    const updating = time.updates(updates, tokens.calibration * epochs);
    const seconds =
      teacherSeconds +
      writing +
      updating +
      time.beforeTraining(Math.min(tokens.calibration, lookedAtTokens)) +
      heldOutSeconds +
      time.copy(bytesAfter);
    const share = seconds > 0 ? ` (${Math.round((100 * heldOutSeconds) / seconds)} % of the time)` : "";
    return {
      seconds,
      teacherSeconds,
      spread: shared(recipe, { targets: time.targets(taught * passes), updating, heldOut: heldOutSeconds }),
      peakMemoryBytes:
        peakMemory(input, inMemory) + fitBytes(recipe, teacher) + threadsOf(input, (taught + tokens.heldOut) * passes),
      assumption: `teacher ${passes === 1 ? "once" : `${passes.toFixed(1)} times (active experts and draws)`} over ${taught} training${beside === 0 ? "" : ` and ${beside} tokens beside the student`} and once over ${tokens.heldOut} held-out tokens, ${updates} updates of ${trained?.parameters ?? 0} trained parameters, ${evaluations} evaluations of ${tokens.heldOut} held-out tokens${share}; ${measured}`,
    };
  },
  // Teacher targets (the final hidden state of every training and held-out token and, where they are matched, the router
  // logits of every training token, f32), and the training state of wider scopes, old and new while it is replaced.
  scratch: (input) => {
    const { recipe, teacher, memoryBudgetBytes, trained } = input;
    const { sequenceLength } = recipe.data;
    const tokens = recipeTokens(recipe);
    const learner = learnerOf(input);
    const { hiddenStateBytes } = planExecution(learner, sequenceLength, memoryBudgetBytes, "backward");
    const batch = (recipe.calibrate?.batch ?? 0) * sequenceLength;
    const update = batch * tapedBytesPerToken(learner) + stateBytesOf(teacher, batch);
    const matched = recipe.calibrate && matchesRouterLogits(recipe.calibrate);
    const logits = matched ? tokens.calibration * (trained?.routerLogits ?? 0) : 0;
    const state = trained?.sizes ? 2 * 4 * trained.parameters : 0;
    const targets = (isTaught(recipe) ? tokens.calibration * drawsOf(recipe) : 0) + tokens.heldOut;
    return {
      kept: stateBytesOf(teacher, targets) + 4 * (logits + state),
      spilled: beyond(update, hiddenStateBytes) + beyond(stateBytesOf(teacher, tokens.heldOut), hiddenStateBytes),
    };
  },
  complete: async (context) => {
    context.models.forget(context.paths.output);
    await completeOutput(context.paths.output);
    await removeTeacherTargets(context.paths.runDirectory);
  },
};

/** Passes over the training tokens that the teacher's routing costs, in passes under its own. */
function teacherPasses(recipe: Recipe, teacher: ModelDescription): number {
  const routing = recipe.calibrate?.teacherRouting;
  if (routing === undefined || routing.kind === "own") return 1;
  const [{ description }] = teacherRoutes(routing, teacher, recipe.seed);
  const { sequenceLength } = recipe.data;
  return (drawsOf(recipe) * flopsPerToken(description, sequenceLength)) / flopsPerToken(teacher, sequenceLength);
}

/** What the student takes to write its sequences: all of a round advance by a token a step. */
function writingSeconds({ recipe: { calibrate, data }, time }: ForecastInput, updates: number): number {
  if (!calibrate?.onPolicy) return 0;
  const { share, promptTokens, roundUpdates, replay } = calibrate.onPolicy;
  const rounds = Math.ceil(updates / roundUpdates);
  const rows = (updates / Math.max(1, rounds)) * calibrate.batch * share * (1 - replay);
  return rounds * (data.sequenceLength - promptTokens) * time.step(rows);
}

/**
 * Passes of the teacher over every update's tokens, beside the student: its routers' step (forward, forward again and
 * gradients) and what the student learns from it; or what is matched, its experts once more.
 */
function besidePasses({ calibrate }: Recipe): number {
  // On a round that the student wrote, whatever else teaches runs once.
  const routers = calibrate?.teacherRouting?.kind === "student-aware" ? 4 : calibrate?.onPolicy ? 1 : 0;
  const { match } = calibrate ?? {};
  return routers + (match === undefined ? 0 : match.experts === undefined ? 1 : 2);
}

/** Tokens that a held-out evaluation sends through the teacher's own routers and those that train, to compare them (routerRounds.ts). */
function lookedAtRouters({ calibrate, data }: Recipe, heldOutTokens: number): number {
  if (calibrate?.teacherRouting?.kind !== "student-aware") return 0;
  return 2 * Math.min(heldOutTokens, calibrate.batch * data.sequenceLength);
}

/** Of the student and of what is open beside it, taken as the teacher with as many experts as teach. */
function peakMemory(input: ForecastInput, amounts: { tokens: number; allTokens: number }): number {
  const { recipe, teacher, memoryBudgetBytes } = input;
  const { calibrate } = recipe;
  const training = { ...input, teacher: learnerOf(input) };
  if (!calibrate || modelsAtOnce(calibrate) === 1)
    return Math.max(streamingMemory(training, amounts, "backward"), input.student ? targetsMemory(input) : 0);
  const part = { ...training, memoryBudgetBytes: budgetOfEach(memoryBudgetBytes, calibrate) };
  const [{ description }] = teacherRoutes(calibrate.teacherRouting, teacher, recipe.seed);
  const direction = calibrate.teacherRouting?.kind === "student-aware" ? "backward" : "forward";
  const others = modelsAtOnce(calibrate) - 1;
  const ofOther = streamingMemory({ ...part, teacher: description, trained: null }, amounts, direction);
  return streamingMemory(part, amounts, "backward") + others * (ofOther - baseProcessBytes);
}

/** Threads of the teacher's passes, whose memory the allocators keep, and of the updates. */
function threadsOf(input: ForecastInput, taughtTokens: number): number {
  const { calibrate } = input.recipe;
  const { partThreads = 0 } = input;
  if (!calibrate || partThreads === 0) return 0;
  const part = partSequences(calibrate.batch, partThreads);
  return (
    layerThreadsMemory(input, taughtTokens) + (trainsByParts(calibrate) ? threadsMemory(input, part, "backward") : 0)
  );
}

/** Of the teacher's pass before training, which is the larger part where a dense student is much smaller. */
function targetsMemory(input: ForecastInput): number {
  const { recipe, teacher } = input;
  const [{ description }] = teacherRoutes(recipe.calibrate?.teacherRouting, teacher, recipe.seed);
  const tokens = isTaught(recipe) ? recipeTokens(recipe).calibration : recipeTokens(recipe).heldOut;
  return streamingMemory({ ...input, teacher: description, trained: null }, { tokens, allTokens: tokens });
}

function drawsOf({ calibrate }: Recipe): number {
  return calibrate?.teacherRouting?.kind === "augment" ? calibrate.teacherRouting.draws : 1;
}

/** Optimiser updates of the recipe's calibration, where the text is long enough. */
export function totalUpdates({ data, calibrate }: Recipe): number {
  return calibrate ? Math.ceil(data.sequences / calibrate.batch) * calibrate.epochs : 0;
}

/** Tokens that a calibration looks at before its first update, at most (distillation/firstTokens.ts). */
const lookedAtTokens = 65_536;

/** Gram matrix, its factor, that one's inverse and what solving makes, in float64, where routers are fitted first. */
export function fitBytes({ calibrate }: Recipe, { hiddenSize }: ModelDescription): number {
  return calibrate?.initialise === "router-logits" ? 6 * 8 * hiddenSize ** 2 : 0;
}

function isTaught({ calibrate }: Recipe): boolean {
  if (calibrate?.teacherRouting?.kind === "student-aware" || calibrate?.onPolicy) return false;
  return calibrate !== undefined && (calibrate.loss !== "lm" || matchesRouterLogits(calibrate));
}

function optionsOf({ run }: StageContext): CalibrateOptions {
  return withTextDefaults(run.recipe.calibrate!, run.recipe.data.packing);
}

function sequenceCount(context: StageContext): number {
  return context.run.recipe.data.sequences + spareCount(context);
}

/** As many again as are held out, for where the first ones continue a document that training reads. */
function spareCount({ run }: StageContext): number {
  const { heldOut, maxHeldOut } = run.recipe.calibrate!;
  return heldOutCount(run.recipe.data.sequences, heldOut, maxHeldOut);
}

/**
 * Teacher and student must speak of the same tokens; a student that names another teacher is refused unless forced.
 * @throws RerouteError teacher/mismatch
 */
export async function checkOrigin(context: StageContext, student: OpenModel, teacher: OpenModel): Promise<void> {
  const [s, t] = [student.description, teacher.description];
  if (!hasExperts(s)) return checkTokenizers(student, teacher);
  if (s.vocabSize !== t.vocabSize) {
    throw mismatch(
      `The student's vocabulary has ${s.vocabSize} entries, the teacher's ${t.vocabSize}; choose the model that the student was made from`,
    );
  }
  if (s.hiddenSize !== t.hiddenSize || s.layers.length !== t.layers.length) {
    throw mismatch(
      `The student has ${s.layers.length} layers of width ${s.hiddenSize}, the teacher ${t.layers.length} of width ${t.hiddenSize}; choose the model that the student was made from`,
    );
  }
  const origin = (await readProvenance(student.checkpoint.directory))?.teacher;
  if (!origin) await checkOwnTokenizer(student, teacher);
  if (!origin || origin.fingerprint === teacher.fingerprint) return;
  const message = `The student says it was made from ${origin.path} (${origin.fingerprint.slice(0, 12)}), not from this teacher (${teacher.fingerprint.slice(0, 12)})`;
  if (!context.force) throw mismatch(`${message}; choose that teacher, or use --force to go on`);
  await context.warn(`${message}; going on because of --force`);
}

/**
 * A dense student may have any size, but must read the same tokens; vocabularies may differ by padding rows, since both
 * distributions are cut to the tokens that both have.
 * @throws RerouteError teacher/mismatch, data/tokenizer
 */
export async function checkTokenizers(student: OpenModel, teacher: OpenModel): Promise<void> {
  const difference = await tokenizerDifference(student.checkpoint.directory, teacher.checkpoint.directory);
  if (difference === null) return;
  throw mismatch(
    `The tokenizers of student and teacher differ (${difference}), so that their distributions are over other tokens; choose a student with the teacher's tokenizer`,
  );
}

/**
 * The same of a student with experts that does not say what it was made from; without a tokenizer of its own it reads the teacher's.
 * @throws RerouteError teacher/mismatch
 */
export async function checkOwnTokenizer(student: OpenModel, teacher: OpenModel): Promise<void> {
  try {
    await checkTokenizers(student, teacher);
  } catch (error) {
    if (!(error instanceof RerouteError) || error.code !== "data/tokenizer") throw error;
  }
}

function mismatch(message: string): RerouteError {
  return new RerouteError("teacher/mismatch", message);
}

/** What workers can share: the teacher's targets; of Router KD, the sequences of a batch and of held-out evaluations. */
function shared(
  recipe: Recipe,
  { targets, updating, heldOut }: Record<"targets" | "updating" | "heldOut", number>,
): SpreadShare[] {
  const { calibrate, data } = recipe;
  const ofText = targetTiles(data.sequences, data.sequenceLength).length;
  const taught = targets > 0 ? [{ seconds: targets, parts: ofText, limit: `targets are cut into ${ofText}` }] : [];
  if (calibrate === undefined || !spreadsUpdates(calibrate)) return taught;
  const parts = batchParts(calibrate.batch).length;
  const measured = heldOutTiles(recipeTokens(recipe).heldOut / data.sequenceLength).length;
  return [
    ...taught,
    { seconds: updating, parts, limit: `an update's batch of ${calibrate.batch} is cut into ${parts}` },
    ...(measured > 0
      ? [{ seconds: heldOut, parts: measured, limit: `held-out evaluations are cut into ${measured}` }]
      : []),
  ];
}
