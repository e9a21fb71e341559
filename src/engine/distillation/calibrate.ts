import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import { runFiles } from "../../protocol/run";
import { pickSequences } from "../execution/batches";
import { isFiniteThroughout } from "../execution/finite";
import { ModelExecutor } from "../execution/modelExecutor";
import { headViews } from "../execution/weightViews";
import { headsAreEqual, VocabularyHead } from "../execution/vocabularyHead";
import { weightKey } from "../graph/blocks/weights";
import { withRoundedActivations } from "../model/roundedActivations";
import { sliceSequences, type TokenSequences } from "../data/sequences";
import { shuffledOrder } from "../tensor/random";
import { clipGlobalNorm, updateAdamW } from "./adamW";
import { runtimeOfEach } from "./besideStudent";
import { stateKey, type CalibrationOptions, type TrainedParameters } from "./calibration";
import { chooseExperts } from "./chooseExperts";
import { firstTokens } from "./firstTokens";
import { freezeZeros, rememberZeros, weightsWithZeros } from "./frozenZeros";
import { evaluateHeldOut, meanOfTargets, recordHeldOut } from "./heldOut";
import { initialiseRouters } from "./initialiseRouters";
import { BatchUpdates } from "./sideBySide/batchUpdates";
import { MatchingTeacher } from "./match/matchingTeacher";
import { checkMatchOptions, matchMapping } from "./match/matchMapping";
import { checkOnPolicy } from "./onPolicyOptions";
import { openOnPolicy } from "./openOnPolicy";
import { RoundedRouters, TrainedScales } from "./quantisedTraining";
import { learningRateAt } from "./schedule";
import { trainableWeights, type TrainableWeight } from "./scope";
import { RouterRounds } from "./routerRounds";
import { StudentAwareTeacher } from "./studentAwareTeacher";
import { prepareTargets } from "./targets";
import type { TeacherTargets } from "./teacherTargets";
import { teacherRoutes } from "./teacherRouting";
import { trainedNames } from "./trainedNames";
import { initialState, loadState, saveState, stateBytes, type HeldOutResult, type TrainState } from "./trainState";

/** States up to this size are written after every update, larger ones at held-out evaluations. */
const alwaysSavedBytes = 256e6;

/**
 * Trains a compressed student against its teacher, by default by Router Knowledge Distillation (arXiv 2603.02217, eq. 3):
 * everything frozen but the routers, which learn to bring the student's next-token distribution to the teacher's,
 *   loss = tau^2 / N * sum over target positions of KL(softmax(z_T / tau) || softmax(z_S / tau)),
 * over the whole vocabulary. Other losses: losses.ts; what may change: scope.ts. Weights train as f32 master copies. The
 * state goes to disk as it advances, so a killed calibration continues to the same bytes.
 *
 * @throws RerouteError `training/not-finite`, `cancelled`, what trainableWeights, logitMapping, reading and running raise
 */
export async function calibrate(given: CalibrationOptions): Promise<TrainedParameters> {
  const { activations } = given.options;
  const calibration = { ...given, student: withRoundedActivations(given.student, activations) };
  const { student, teacher, training, heldOut, options, seed, stateDirectory, signal, report, onMetrics } = calibration;
  const { elsewhere = {} } = calibration;
  const runtime = runtimeOfEach(calibration.runtime, options);
  checkMatchOptions(options);
  checkOnPolicy(options, training.sequenceLength);
  if (options.match)
    matchMapping(student.description, teacher.description, options.match, calibration.expertMapping ?? null);
  const targets = await prepareTargets(calibration);
  const stateFile = path.join(stateDirectory, runFiles.trainState);
  const inputHash = stateKey(calibration);
  const saved = await loadState(stateFile, inputHash);
  const weights = await chooseWeights(calibration, saved);
  const trainable = new Set(weights.map(({ key }) => key));
  const frozen = weightsWithZeros(weights, student);
  const scales = await TrainedScales.open(student.checkpoint, weights);
  const rounding = RoundedRouters.of(student.checkpoint, student.description, options);

  const { sequenceLength } = training;
  const scratchDirectory = stateDirectory;
  const executor = await ModelExecutor.open({
    ...student,
    sequenceLength,
    runtime,
    scratchDirectory,
    direction: "backward",
    trainable,
  });
  const closing: (() => Promise<void> | undefined)[] = [];
  try {
    const headTrains = headViews(student.description).some((view) => trainable.has(weightKey(view)));
    const sharedHead = !headTrains && (await headsAreEqual(student, teacher));
    const head = new VocabularyHead(
      { ...student, trainable },
      executor.sessions,
      executor.plan.headPositions,
      { source: teacher, sharedHead },
      executor.trained,
    );
    const state = saved ?? initialState(inputHash, executor.parameters);
    await calibration.onResume?.(saved?.step ?? -1);
    const useWeights = () => useParameters(executor, rounding?.rounded(state.parameters) ?? state.parameters);
    useWeights();

    const updatesPerEpoch = Math.ceil(training.numSequences / options.batch);
    const totalUpdates = updatesPerEpoch * options.epochs;
    const isSmall = stateBytes(state, heldOut !== null) <= (calibration.alwaysSavedBytes ?? alwaysSavedBytes);
    const numbersOf = (update: number) => {
      const order = shuffledOrder(training.numSequences, seed, Math.floor(update / updatesPerEpoch));
      const first = (update % updatesPerEpoch) * options.batch;
      return order.subarray(first, first + options.batch);
    };
    const policy = await openOnPolicy(calibration, { executor, numbersOf, totalUpdates, inputHash });
    let writing = 0;
    const batchOf = async (update: number) => {
      if (policy === null) return pickSequences(training, numbersOf(update));
      const began = performance.now();
      const batch = await policy.batchOf(update);
      writing += performance.now() - began;
      return batch;
    };
    const rounds = await openRounds(calibration, { executor, head, state, batchOf, totalUpdates });
    closing.push(() => rounds?.close());
    const matching = await openMatching(calibration);
    closing.push(() => matching?.close());
    const updates = new BatchUpdates({ executor, head, teacher, options });
    closing.push(() => updates.close());
    const lookAt = async (sequences: TokenSequences, taught: TeacherTargets): Promise<HeldOutResult> => {
      const of = { parameters: executor.parameters, targets: taught.file };
      if (elsewhere.heldOut) return meanOfTargets(await elsewhere.heldOut(of, signal), sequences);
      using hidden = taught.all(sequences.numSequences);
      return await evaluateHeldOut(executor, head, sequences, hidden, signal);
    };
    /** @param undo takes back what was done since the last evaluation where that made it worse */
    const evaluate = async (undo?: () => void) => {
      if (heldOut === null || targets.heldOut === null) return;
      const result = await lookAt(heldOut, targets.heldOut);
      const best = recordHeldOut(state, result, options);
      if (!best && undo) undo();
      else {
        const few = rounds && sliceSequences(heldOut, 0, Math.min(heldOut.numSequences, options.batch));
        const moved = rounds && few ? { routerKl: await rounds.measure(few) } : {};
        await onMetrics({ kind: "held-out", step: state.step, ...result, best, ...moved });
      }
    };

    if (saved === null) {
      await evaluate();
      if (options.initialise === "router-logits") {
        const routerLogits = targets.training!.routerLogits!;
        const restoreZeros = rememberZeros(state.parameters, frozen);
        await initialiseRouters({ executor, sequences: firstTokens(training), targets: routerLogits, signal, report });
        for (const [key, fitted] of executor.parameters) state.parameters.get(key)!.set(fitted);
        restoreZeros();
        useWeights();
        checkFinite(state.parameters, "the fitted router");
        await evaluate(options.keepStep === "best" ? () => restore(state) : undefined);
        state.evaluationsWithoutImprovement = 0;
      }
      if (heldOut !== null || options.initialise !== "none") await saveState(stateFile, state);
    }
    while (state.step < totalUpdates && !state.finished) {
      const update = state.step;
      const numbers = numbersOf(update);
      const started = performance.now();
      writing = 0;
      const batch = await batchOf(update);
      const asked = performance.now() - writing;
      const taught = (await rounds?.targetsFor(update)) ?? (await policy?.targetsOf(update)) ?? targets.training;
      const teaching = performance.now() - writing - asked;
      const { loss, gradients, terms } = await inUpdate(update + 1, async () => {
        const of = { sequences: batch, numbers };
        const isPlain = rounds === null && policy === null && matching === null;
        const result: Awaited<ReturnType<typeof updates.lossAndGradients>> = await (elsewhere.gradients && isPlain
          ? elsewhere.gradients(
              {
                ...{ parameters: executor.parameters, numbers, targets: taught?.draws.map(({ file }) => file!) ?? [] },
                numTargets: batch.lengths.reduce((sum, length) => sum + Math.max(0, length - 1), 0),
              },
              signal,
            )
          : updates.lossAndGradients(of, taught, matching, signal));
        checkFinite(result.gradients, "the gradient of");
        return result;
      });
      freezeZeros(gradients, state.parameters, frozen);
      const gradientNorm = clipGlobalNorm(gradients, options.clip);
      const learningRate = learningRateAt(update, totalUpdates, options);
      const ofScales = learningRateAt(update, totalUpdates, {
        ...options,
        learningRate: options.scaleLearningRate ?? options.learningRate,
      });
      const others = new Map(scales.keys.map((key) => [key, ofScales]));
      updateAdamW(state.optimiser, state.parameters, gradients, learningRate, options.weightDecay, others);
      scales.keepAboveFloors(state.parameters);
      await inUpdate(update + 1, () => checkFinite(state.parameters, "the updated weight"));
      if (rounding !== null) useWeights();
      state.step = update + 1;
      const seconds = (performance.now() - started) / 1e3;
      const tokens = batch.lengths.reduce((sum, length) => sum + length, 0);
      const matched = terms === undefined ? {} : { terms };
      const times = {
        ...(update > 0 && rounds === null && policy === null
          ? {}
          : { teacherSeconds: teaching / 1e3 + (update === 0 ? (targets.training?.seconds ?? 0) : 0) }),
        ...(policy === null ? {} : { writingSeconds: writing / 1e3 }),
      };
      await onMetrics({
        ...{
          kind: "update",
          step: state.step,
          loss,
          ...matched,
          learningRate,
          gradientNorm,
          tokens,
          seconds,
          ...times,
        },
      });
      const isEvaluated = state.step % options.evaluateEvery === 0 || state.step === totalUpdates;
      if (isEvaluated) await evaluate();
      state.finished = options.patience > 0 && state.evaluationsWithoutImprovement >= options.patience;
      if (isSmall || isEvaluated || state.finished) {
        await saveState(stateFile, state);
        await policy?.forget(state.step);
      }
      report?.({
        stage: "calibrate",
        message: options.scope === "router" ? "Training routers" : `Training ${options.scope}`,
        done: state.step,
        total: totalUpdates,
        unit: "updates",
      });
    }
    const useBest = options.keepStep === "best" && state.best !== null;
    const kept = useBest ? state.best!.parameters : state.parameters;
    return {
      parameters: rounding?.rounded(kept) ?? kept,
      trained: trainedNames(weights, student.description),
      keptStep: useBest ? state.best!.step : state.step,
      totalUpdates,
      heldOutBefore: state.initialKl,
      heldOutAfter: useBest ? state.best!.kl : null,
    };
  } finally {
    for (const close of closing) await close();
    await executor.close();
  }
}

/** The teacher at whose layers the student's are held; null where nothing is matched inside the model. */
async function openMatching(calibration: CalibrationOptions): Promise<MatchingTeacher | null> {
  const { student, teacher, training, options, stateDirectory, expertMapping = null } = calibration;
  const runtime = runtimeOfEach(calibration.runtime, options);
  if (options.match === undefined) return null;
  const [{ description }] = teacherRoutes(options.teacherRouting, teacher.description, 0);
  return MatchingTeacher.open({
    ...{ teacher: { ...teacher, description }, student, match: options.match, expertMapping, runtime },
    ...{ sequenceLength: training.sequenceLength, scratchDirectory: stateDirectory },
  });
}

/** The rounds in which the teacher's routers train with the student; null under every other routing. */
async function openRounds(
  { student, teacher, training, options, runtime, stateDirectory, signal }: CalibrationOptions,
  run: {
    executor: ModelExecutor;
    head: VocabularyHead;
    state: TrainState;
    batchOf: (update: number) => Promise<TokenSequences>;
    totalUpdates: number;
  },
): Promise<RouterRounds | null> {
  const { teacherRouting: routing } = options;
  if (routing?.kind !== "student-aware") return null;
  const { executor, head, state, batchOf, totalUpdates } = run;
  const [{ description }] = teacherRoutes(routing, teacher.description, 0);
  const aware = await StudentAwareTeacher.open({
    teacher: { ...teacher, description },
    student: { ...student, trainable: new Set(executor.parameters.keys()) },
    trained: executor.trained,
    sequenceLength: training.sequenceLength,
    runtime: runtimeOfEach(runtime, options),
    scratchDirectory: stateDirectory,
    routers: state.routers,
  });
  state.routers = aware.state;
  const learningRate = routing.routerLearningRate ?? options.learningRate / 10;
  return new RouterRounds({
    ...{ teacher: aware, student: { executor, head }, batchOf, totalUpdates, state, signal },
    ...{ roundUpdates: routing.roundUpdates, clip: options.clip, freezeAbove: routing.freezeAbove },
    learningRateAt: (update) => learningRateAt(update, totalUpdates, { ...options, learningRate }),
  });
}

/** What may change; a resumed calibration goes on with the experts that its state holds. */
async function chooseWeights(calibration: CalibrationOptions, saved: TrainState | null): Promise<TrainableWeight[]> {
  const { student, training, options, runtime, stateDirectory, signal, report } = calibration;
  const { description } = student;
  if (options.scope !== "router+top-experts") return trainableWeights(description, options.scope);
  const all = trainableWeights(description, "router+experts");
  if (saved !== null) return all.filter(({ key }) => saved.parameters.has(key));
  const chosen = await chooseExperts({
    student,
    sequences: training,
    count: options.topExperts,
    runtime,
    scratchDirectory: stateDirectory,
    signal,
    report,
  });
  return trainableWeights(description, options.scope, chosen);
}

/** Back to the parameters of the best held-out evaluation, in place: the executor and the optimiser hold the arrays. */
function restore({ parameters, best }: TrainState): void {
  for (const [key, values] of best!.parameters) parameters.get(key)!.set(values);
}

/** The executor reads the very arrays that the optimiser writes. */
function useParameters(executor: ModelExecutor, parameters: ReadonlyMap<string, Float32Array>): void {
  for (const [key, values] of parameters) executor.parameters.set(key, values);
}

/** Says which update failed, and that nothing of it was saved. */
async function inUpdate<T>(update: number, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof RerouteError) || !error.code.endsWith("/not-finite")) throw error;
    throw new RerouteError(
      "training/not-finite",
      `Update ${update} failed and the state before it is kept: ${error.message}. Lower the learning rate, or check the weights for NaN and infinity`,
      { cause: error },
    );
  }
}

/** Gradients come from the last layer to the first, so the last one that is not finite is where it began. */
function checkFinite(values: ReadonlyMap<string, Float32Array>, what: string): void {
  const bad = [...values].reverse().find(([, array]) => !isFiniteThroughout(array))?.[0];
  if (bad !== undefined) throw new RerouteError("training/not-finite", `${what} ${bad} holds NaN or infinity`);
}
