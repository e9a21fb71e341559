import type { TokenSequences } from "../data/sequences";
import { nextTokens, tokenBatch } from "../execution/batches";
import type { HiddenStates } from "../execution/hiddenStates";
import type { ModelExecutor } from "../execution/modelExecutor";
import type { VocabularyHead } from "../execution/vocabularyHead";

/** Mean KL(teacher || student) over the vocabulary and mean loss of the student, nats a target position. */
export async function evaluateHeldOut(
  executor: ModelExecutor,
  head: VocabularyHead,
  sequences: TokenSequences,
  teacherHidden: HiddenStates,
  signal: AbortSignal | undefined,
): Promise<{ kl: number; nll: number }> {
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
