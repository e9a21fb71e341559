import type { CalibrateOptions } from "../../protocol/recipe";
import type { TokenSequences } from "../data/sequences";
import { nextTokens, tokenBatch } from "../execution/batches";
import type { HiddenStates } from "../execution/hiddenStates";
import type { ModelExecutor } from "../execution/modelExecutor";
import type { VocabularyHead } from "../execution/vocabularyHead";
import { copyParameters, type HeldOutLook, type TrainState } from "./trainState";

/** Mean KL(teacher || student) over the vocabulary and mean loss of the student, nats a target position. */
export async function evaluateHeldOut(
  executor: ModelExecutor,
  head: VocabularyHead,
  sequences: TokenSequences,
  teacherHidden: HiddenStates,
  signal: AbortSignal | undefined,
): Promise<HeldOutLook> {
  const hidden = await executor.forward(tokenBatch(sequences), { signal });
  const { labels, isTarget } = nextTokens(sequences);
  const rows = await head.compare(hidden, teacherHidden, labels, signal);
  hidden.close();
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
 * Takes a look at the held-out set into the state.
 * @returns whether it is the best so far, by the kind of loss that is trained: the KL to the teacher, with loss lm the loss
 *   of the text, with kd+lm their weighted sum
 */
export function recordHeldOut(state: TrainState, look: HeldOutLook, options: CalibrateOptions): boolean {
  state.initialKl ??= look.kl;
  const share = options.loss === "lm" ? 1 : options.loss === "kd+lm" ? options.lmShare : 0;
  const value = ({ kl, nll }: HeldOutLook) => (share === 0 ? kl : (1 - share) * kl + share * nll);
  const isBest = Number.isFinite(value(look)) && (state.best === null || value(look) < value(state.best));
  if (isBest) state.best = { step: state.step, ...look, parameters: copyParameters(state.parameters) };
  state.looksWithoutGain = isBest ? 0 : state.looksWithoutGain + 1;
  return isBest;
}
