import type { TaskResult } from "../../protocol/evaluation";
import { choiceSequences, type ChoiceItem } from "../data/choiceItems";
import type { Tokenizer } from "../data/tokenizer";
import { nextTokens } from "../execution/batches";
import { bootstrapDifference, estimateMean } from "./bootstrap";
import { runAlone, type EvaluateOptions } from "./modelRuns";

export interface TaskToEvaluate {
  path: string;
  items: readonly ChoiceItem[];
  tokenizer: Tokenizer;
}

/** Choices are short: longer contexts lose their beginning. */
const longestSequence = 2048;

/** Accuracy of a checkpoint on a task. @throws as choiceLogLikelihoods */
export async function evaluateTask(options: EvaluateOptions, task: TaskToEvaluate): Promise<TaskResult> {
  return { path: task.path, ...scoreTask(task.items, await choiceLogLikelihoods(options, task)) };
}

/**
 * The log-likelihood of each item's choices behind its context, nats: the sum over a choice's tokens of ln p(token | what is
 * before it).
 *
 * @throws RerouteError `data/malformed` for an item without tokens; what a forward pass raises
 */
export async function choiceLogLikelihoods(
  { model, runtime, scratchDirectory, residentBytes, signal, report }: EvaluateOptions,
  task: TaskToEvaluate,
): Promise<number[][]> {
  const { sequences, spans } = choiceSequences(task.items, task.tokenizer, longestSequence);
  const { labels } = nextTokens(sequences);
  const { nll } = await runAlone(
    {
      ...{ model, teacher: null, sequences, expertMapping: null, runtime, scratchDirectory, residentBytes },
      ...(signal ? { signal } : {}),
      ...(report ? { report } : {}),
    },
    labels,
  );
  const sums = spans.map(({ from }, s) => {
    const at = s * sequences.sequenceLength;
    let sum = 0;
    // The loss of a position is that of the token behind it.
    for (let i = from; i < sequences.lengths[s]!; i++) sum -= nll[at + i - 1]!;
    return sum;
  });
  const byItem = task.items.map(() => [] as number[]);
  for (const [s, { item }] of spans.entries()) byItem[item]!.push(sums[s]!);
  return byItem;
}

/**
 * Accuracy on multiple-choice items, as lm-evaluation-harness measures it: the choice with the largest log-likelihood is the
 * model's answer; for the length-normalised accuracy it is divided by the characters of the choice without the space in front. Of equal
 * ones the first counts.
 *
 * @param logLikelihoods of each item's choices, nats
 */
export function scoreTask(
  items: readonly ChoiceItem[],
  logLikelihoods: readonly (readonly number[])[],
): Omit<TaskResult, "path"> {
  const isRight = (values: readonly number[], { gold }: ChoiceItem) => (indexOfLargest(values) === gold ? 1 : 0);
  const correct = items.map((item, i) => isRight(logLikelihoods[i]!, item));
  const normalised = items.map((item, i) =>
    isRight(
      logLikelihoods[i]!.map((value, c) => value / Math.max(1, Array.from(item.choices[c]!.trimStart()).length)),
      item,
    ),
  );
  const tokens = items.map(() => 1);
  return {
    items: items.length,
    accuracy: estimateMean({ sums: correct, tokens }),
    accuracyNormalised: estimateMean({ sums: normalised, tokens }),
    perItem: { correct, normalised },
  };
}

/** What two checkpoints' accuracies differ by on the same items: after minus before, with the 95 % interval of the paired bootstrap. */
export function compareTasks(before: TaskResult, after: TaskResult, seed: number) {
  const tokens = before.perItem.correct.map(() => 1);
  const change = (of: (task: TaskResult) => readonly number[]) => {
    const { mean, interval95 } = bootstrapDifference(of(after), { sums: of(before), tokens }, { seed });
    return { mean, interval95 };
  };
  return {
    accuracy: change(({ perItem }) => perItem.correct),
    accuracyNormalised: change(({ perItem }) => perItem.normalised),
  };
}

function indexOfLargest(values: readonly number[]): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}
