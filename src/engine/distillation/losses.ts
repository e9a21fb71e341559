import { RerouteError } from "../../protocol/errors";
import type { CalibrateOptions } from "../../protocol/calibrateOptions";
import type { TokenSequences } from "../data/sequences";
import { nextTokens, tokenBatch } from "../execution/batches";
import type { HiddenStates } from "../execution/hiddenStates";
import { MemoryHiddenStates } from "../execution/hiddenStates";
import type { ModelExecutor } from "../execution/modelExecutor";
import { Tape } from "../execution/tape";
import type { VocabularyHead } from "../execution/vocabularyHead";
import { TreeFold } from "../tensor/treeFold";
import { routerLogitLoss } from "./routerLogits";
import { divergenceOf } from "./divergence";
import type { BatchMatch } from "./match/batchMatch";
import type { MatchingTeacher } from "./match/matchingTeacher";
import type { MatchWeights } from "./match/matchMapping";
import type { TrainingTargets } from "./targets";

/** One batch, and the numbers of its sequences among the training sequences. */
export interface LossBatch {
  sequences: TokenSequences;
  numbers: ArrayLike<number>;
  /** Target positions that the loss is a mean over, where these sequences are a part of a batch; absent: their own. */
  numTargets?: number;
}

/**
 * Loss of one batch and its gradient in every trainable weight:
 * - kd: temperature^2 times the divergence from the teacher, of several draws their mean; lm: -log p(next token), kd+lm: their weighted sum; nats a target position
 * - router-logits: mean squared difference to the teacher's router logits, over experts, tokens and layers. Exact: what a
 *   router changes in the layers above it counts too.
 * With kd, lm and kd+lm, matching terms are added (match/batchMatch.ts); `terms` holds them without their weights.
 *
 * Where only routers train, loss and gradients of kd, lm and kd+lm are sums over the batch's sequences in a tree
 * (tensor/treeFold.ts): parts of the batch give the nodes of that tree, joined with + and addNamed.
 */
export async function lossAndGradients(
  executor: ModelExecutor,
  head: VocabularyHead,
  batch: LossBatch,
  targets: TrainingTargets | null,
  options: CalibrateOptions,
  signal: AbortSignal | undefined,
  matching: MatchingTeacher | null = null,
): Promise<{ loss: number; gradients: Map<string, Float32Array>; terms?: MatchWeights }> {
  const tape = new Tape();
  let hidden: HiddenStates | null = null;
  let match: BatchMatch | null = null;
  try {
    match = (await matching?.batch(batch.sequences, executor, signal)) ?? null;
    const hook = match === null ? {} : { onFeedForward: match.onFeedForward };
    hidden = await executor.forward(tokenBatch(batch.sequences), { tape, signal, ...hook });
    if (options.loss === "router-logits") return await routingLoss(executor, tape, hidden, batch, targets!, signal);
    const found = await vocabularyLoss(executor, head, tape, hidden, batch, targets, options, signal, match);
    if (match === null) return found;
    const { losses, loss } = match;
    const terms = Object.fromEntries(
      Object.keys(match.match).map((name) => [name, losses[name as keyof MatchWeights]]),
    );
    return { ...found, loss: checkLoss(found.loss + loss, "its matching terms"), terms };
  } finally {
    match?.close();
    hidden?.close();
    tape.close();
  }
}

async function vocabularyLoss(
  executor: ModelExecutor,
  head: VocabularyHead,
  tape: Tape,
  hidden: HiddenStates,
  { sequences, numbers, numTargets: ofBatch }: LossBatch,
  targets: TrainingTargets | null,
  { loss: kind, temperature, lmShare, divergence, mix }: CalibrateOptions,
  signal: AbortSignal | undefined,
  match: BatchMatch | null,
) {
  const { labels, isTarget } = nextTokens(sequences);
  const numTargets = ofBatch ?? isTarget.reduce((sum, one) => sum + one, 0);
  const factor = kind === "lm" ? 1 : temperature ** 2;
  const rowWeights = Float32Array.from(isTarget, (one) => (one * factor) / numTargets);
  const gradients = executor.trained.zeros();
  const rowLosses = await head.lossAndGradient(
    hidden,
    { teacherHidden: targets && (await Promise.all(targets.draws.map((draw) => draw.read(numbers)))), labels },
    rowWeights,
    {
      ...{ loss: kind as "kd" | "lm" | "kd+lm", temperature, lmShare },
      ...(divergence === undefined ? {} : { divergence: divergenceOf(divergence, mix) }),
    },
    signal,
    gradients,
  );
  const loss = sumOverSequences(rowLosses, rowWeights, sequences.sequenceLength);
  checkLoss(loss, "the final norm and the vocabulary head");
  const added = match === null ? {} : { terms: match.terms, routerLogitGradient: match.routerLogitGradient };
  await executor.backward(tape, hidden, { signal, ...added }, gradients);
  return { loss, gradients };
}

/** Weighted row losses: added one after another in a sequence, and sequences in a tree, as their gradients are. */
function sumOverSequences(rowLosses: Float32Array, rowWeights: Float32Array, sequenceLength: number): number {
  const sequences = new TreeFold<number>((left, right) => left + right);
  for (let from = 0; from < rowLosses.length; from += sequenceLength) {
    let sum = 0;
    for (let row = from; row < from + sequenceLength; row++)
      if (rowWeights[row] !== 0) sum += rowLosses[row]! * rowWeights[row]!;
    sequences.add(sum);
  }
  return sequences.take() ?? 0;
}

function checkLoss(loss: number, where: string): number {
  if (Number.isFinite(loss)) return loss;
  throw new RerouteError(
    "training/not-finite",
    `the loss is ${loss} although the outputs of all layers are finite: look at ${where}`,
  );
}

async function routingLoss(
  executor: ModelExecutor,
  tape: Tape,
  hidden: HiddenStates,
  { sequences, numbers }: LossBatch,
  targets: TrainingTargets,
  signal: AbortSignal | undefined,
) {
  const { mapping } = targets.routerLogits!;
  const { valid } = tokenBatch(sequences);
  let loss = 0;
  // The vocabulary has no part in this loss: gradients begin at the routers.
  const zero = new MemoryHiddenStates(hidden.numTokens, hidden.width);
  const gradients = await executor.backward(tape, zero, {
    signal,
    routerLogitGradient: async (layer, student) => {
      const teacher = await targets.routerLogits!.read(layer, numbers);
      const size = { width: mapping.get(layer)!.length, layers: mapping.size, valid };
      const part = routerLogitLoss(student, teacher, size);
      loss += part.loss;
      return part.gradient;
    },
  });
  if (!Number.isFinite(loss)) {
    throw new RerouteError("training/not-finite", `the router logits' difference to the teacher's is ${loss}`);
  }
  return { loss, gradients };
}
