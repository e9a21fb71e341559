import { RerouteError } from "../../protocol/errors";
import type { CalibrateOptions } from "../../protocol/calibrateOptions";
import type { TokenSequences } from "../data/sequences";
import { nextTokens, tokenBatch } from "../execution/batches";
import type { HiddenStates } from "../execution/hiddenStates";
import type { ModelExecutor } from "../execution/modelExecutor";
import type { VocabularyHead } from "../execution/vocabularyHead";
import { copyParameters, type HeldOutResult, type TrainState } from "./trainState";

/**
 * Mean KL(teacher || student) over the vocabulary and mean loss of the student, nats a target position.
 * @throws RerouteError cancelled, and what the forward pass raises
 */
export async function evaluateHeldOut(
  executor: ModelExecutor,
  head: VocabularyHead,
  sequences: TokenSequences,
  teacherHidden: HiddenStates,
  signal: AbortSignal | undefined,
): Promise<HeldOutResult> {
  return meanOfTargets(await heldOutRows(executor, head, sequences, teacherHidden, signal), sequences);
}

/** KL and loss of each row; those of no target mean nothing. */
export async function heldOutRows(
  executor: ModelExecutor,
  head: VocabularyHead,
  sequences: TokenSequences,
  teacherHidden: HiddenStates,
  signal: AbortSignal | undefined,
): Promise<{ kl: Float32Array; nll: Float32Array }> {
  using hidden = await executor.forward(tokenBatch(sequences), { signal });
  // Awaited here: what is read is closed behind it.
  return await head.compare(hidden, teacherHidden, nextTokens(sequences).labels, signal);
}

/** Means over target positions, added one after another. */
export function meanOfTargets(rows: { kl: Float32Array; nll: Float32Array }, sequences: TokenSequences): HeldOutResult {
  const { isTarget } = nextTokens(sequences);
  let kl = 0;
  let nll = 0;
  let targets = 0;
  for (let i = 0; i < isTarget.length; i++) {
    if (isTarget[i] === 0) continue;
    kl += rows.kl[i]!;
    nll += rows.nll[i]!;
    targets++;
  }
  return { kl: kl / targets, nll: nll / targets };
}

/**
 * Records a held-out evaluation in the state.
 * @returns whether it is the best so far, by the kind of loss that is trained: the KL to the teacher, with loss lm the loss
 *   of the text, with kd+lm their weighted sum
 * @throws RerouteError training/not-finite where the first one is not finite
 */
export function recordHeldOut(state: TrainState, result: HeldOutResult, options: CalibrateOptions): boolean {
  state.initialKl ??= result.kl;
  const share = options.loss === "lm" ? 1 : options.loss === "kd+lm" ? options.lmShare : 0;
  const value = ({ kl, nll }: HeldOutResult) => (share === 0 ? kl : (1 - share) * kl + share * nll);
  if (state.best === null && !Number.isFinite(value(result)))
    throw new RerouteError(
      "training/not-finite",
      `The first held-out evaluation gives a KL of ${result.kl} and a loss of ${result.nll}, expected finite numbers; check the student's weights for NaN and infinity with "reroute inspect"`,
    );
  const isBest = Number.isFinite(value(result)) && (state.best === null || value(result) < value(state.best));
  if (isBest) state.best = { step: state.step, ...result, parameters: copyParameters(state.parameters) };
  state.evaluationsWithoutImprovement = isBest ? 0 : state.evaluationsWithoutImprovement + 1;
  return isBest;
}
