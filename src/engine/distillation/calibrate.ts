import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import type { CalibrateOptions } from "../../protocol/recipe";
import { runFiles } from "../../protocol/run";
import type { TokenSequences } from "../data/sequences";
import { nextTokens, pickSequences, tokenBatch } from "../execution/batches";
import type { HiddenStates } from "../execution/hiddenStates";
import { ModelExecutor } from "../execution/modelExecutor";
import { Tape } from "../execution/tape";
import { headsAreEqual, VocabularyHead } from "../execution/vocabularyHead";
import { shuffledOrder } from "../tensor/random";
import { clipGlobalNorm, updateAdamW } from "./adamW";
import type { CalibrationOptions, TrainedParameters } from "./calibration";
import { evaluateHeldOut } from "./heldOut";
import { hashState } from "./inputHash";
import { learningRateAt } from "./schedule";
import { TeacherTargets } from "./teacherTargets";
import { copyParameters, initialState, loadState, saveState, type TrainState } from "./trainState";

/**
 * Router Knowledge Distillation (arXiv 2603.02217, eq. 3): everything frozen but the student's routers, which learn to
 * bring its next-token distribution to the teacher's,
 *   loss = tau^2 / N * sum over target positions of KL(softmax(z_T / tau) || softmax(z_S / tau)),
 * over the whole vocabulary. Routers train as f32 master copies. The state is on disk after every update, so a killed
 * calibration continues to the same bytes.
 *
 * @throws RerouteError `training/not-finite`, `cancelled`, and what reading and running raise
 */
export async function calibrate(calibration: CalibrationOptions): Promise<TrainedParameters> {
  const { student, teacher, training, heldOut, options, seed, runtime, stateDirectory, signal, report, onMetrics } =
    calibration;
  const common = {
    teacher,
    runtime,
    directory: stateDirectory,
    signal,
    stage: "calibrate",
    ...(report ? { report } : {}),
  };
  const targets = await TeacherTargets.prepare({ ...common, sequences: training });
  const heldOutTargets = heldOut === null ? null : await TeacherTargets.prepare({ ...common, sequences: heldOut });

  const { sequenceLength } = training;
  const scratchDirectory = stateDirectory;
  const executor = await ModelExecutor.open({
    ...student,
    sequenceLength,
    runtime,
    scratchDirectory,
    direction: "backward",
  });
  try {
    const sharedHead = await headsAreEqual(student, teacher);
    const head = new VocabularyHead(student, executor.sessions, executor.plan.headPositions, {
      source: teacher,
      sharedHead,
    });
    const stateFile = path.join(stateDirectory, runFiles.trainState);
    const inputHash = hashState(calibration);
    const saved = await loadState(stateFile, inputHash);
    const state = saved ?? initialState(inputHash, executor.parameters);
    await calibration.onResume?.(saved?.step ?? -1);
    useParameters(executor, state.parameters);

    const updatesPerEpoch = Math.ceil(training.numSequences / options.batch);
    const totalUpdates = updatesPerEpoch * options.epochs;
    const lookAtHeldOut = async () => {
      if (heldOut === null || heldOutTargets === null) return;
      const teacherHidden = heldOutTargets.all(heldOut.numSequences);
      const { kl, nll } = await evaluateHeldOut(executor, head, heldOut, teacherHidden, signal).finally(() =>
        teacherHidden.close(),
      );
      const best = recordHeldOut(state, kl);
      await onMetrics({ kind: "held-out", step: state.step, kl, nll, best });
    };

    if (state.step === 0 && state.initialKl === null && heldOut !== null) {
      await lookAtHeldOut();
      await saveState(stateFile, state);
    }
    while (state.step < totalUpdates && !state.finished) {
      const update = state.step;
      const order = shuffledOrder(training.numSequences, seed, Math.floor(update / updatesPerEpoch));
      const first = (update % updatesPerEpoch) * options.batch;
      const numbers = order.subarray(first, first + options.batch);
      const started = performance.now();
      const batch = pickSequences(training, numbers);
      const { loss, gradients } = await inUpdate(update + 1, async () =>
        lossAndGradients(executor, head, batch, await targets.read(numbers), options, signal),
      );
      const gradientNorm = clipGlobalNorm(gradients, options.clip);
      const learningRate = learningRateAt(update, totalUpdates, options);
      updateAdamW(state.optimiser, state.parameters, gradients, learningRate, options.weightDecay);
      await inUpdate(update + 1, () => checkFinite(state.parameters, "the updated router"));
      state.step = update + 1;
      const seconds = (performance.now() - started) / 1e3;
      const tokens = batch.lengths.reduce((sum, length) => sum + length, 0);
      await onMetrics({ kind: "update", step: state.step, loss, learningRate, gradientNorm, tokens, seconds });
      if (state.step % options.evaluateEvery === 0 || state.step === totalUpdates) await lookAtHeldOut();
      state.finished = options.patience > 0 && state.looksWithoutGain >= options.patience;
      await saveState(stateFile, state);
      report?.({
        stage: "calibrate",
        message: "Training routers",
        done: state.step,
        total: totalUpdates,
        unit: "updates",
      });
    }
    const useBest = options.keepStep === "best" && state.best !== null;
    return {
      parameters: copyParameters(useBest ? state.best!.parameters : state.parameters),
      keptStep: useBest ? state.best!.step : state.step,
      totalUpdates,
      heldOutBefore: state.initialKl,
      heldOutAfter: useBest ? state.best!.kl : null,
    };
  } finally {
    await executor.close();
  }
}

/** Loss of one batch (nats a target position, temperature factor included) and its gradient in every trainable weight. */
async function lossAndGradients(
  executor: ModelExecutor,
  head: VocabularyHead,
  batch: TokenSequences,
  teacherHidden: HiddenStates,
  { temperature, loss: kind }: CalibrateOptions,
  signal: AbortSignal | undefined,
) {
  const tape = new Tape();
  let hidden: HiddenStates | null = null;
  try {
    hidden = await executor.forward(tokenBatch(batch), { tape, signal });
    const { labels, isTarget } = nextTokens(batch);
    const targets = isTarget.reduce((sum, one) => sum + one, 0);
    const rowWeights = Float32Array.from(isTarget, (one) => (one * temperature ** 2) / targets);
    const rowLosses = await head.lossAndGradient(
      hidden,
      { teacherHidden, labels },
      rowWeights,
      { loss: kind === "lm" ? "lm" : "kd", temperature },
      signal,
    );
    const loss = rowLosses.reduce((sum, value, row) => sum + (rowWeights[row] === 0 ? 0 : value * rowWeights[row]!), 0);
    if (!Number.isFinite(loss)) {
      throw notFinite(
        `the loss is ${loss} although the outputs of all layers are finite: look at the final norm and the vocabulary head`,
      );
    }
    const gradients = await executor.backward(tape, hidden, { signal });
    checkFinite(gradients, "the gradient of");
    return { loss, gradients };
  } finally {
    hidden?.close();
    tape.close();
  }
}

function recordHeldOut(state: TrainState, kl: number): boolean {
  state.initialKl ??= kl;
  const isBest = Number.isFinite(kl) && (state.best === null || kl < state.best.kl);
  if (isBest) state.best = { step: state.step, kl, parameters: copyParameters(state.parameters) };
  state.looksWithoutGain = isBest ? 0 : state.looksWithoutGain + 1;
  return isBest;
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
  const bad = [...values].reverse().find(([, array]) => !array.every(Number.isFinite))?.[0];
  if (bad !== undefined) throw notFinite(`${what} ${bad} holds NaN or infinity`);
}

function notFinite(message: string): RerouteError {
  return new RerouteError("training/not-finite", message);
}
