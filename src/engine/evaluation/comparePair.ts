import type { Comparison, EvaluationFile, ModelEvaluation } from "../../protocol/evaluation";
import { textUnits, type TokenSequences } from "../data/sequences";
import { compareTasks } from "./multipleChoice";
import { compareBeforeAfter } from "./verdict";

/**
 * Before and after calibration on the same sequences: by KL to the teacher, or by loss where it was not measured.
 * Per-sequence values are means over a sequence's target positions, of which there is one less than tokens.
 */
export function comparePair(
  before: ModelEvaluation,
  after: ModelEvaluation,
  { tokens, units }: PerSequence,
  seed: number,
): Comparison {
  const task = before.task && after.task ? { task: compareTasks(before.task, after.task, seed) } : {};
  return { ...comparePerSequence(before, after, { tokens, units }, seed), ...task };
}

function comparePerSequence(
  before: ModelEvaluation,
  after: ModelEvaluation,
  { tokens, units }: PerSequence,
  seed: number,
): Comparison {
  const sums = (means: readonly number[]): number[] => means.map((mean, s) => mean * tokens[s]!);
  const [klBefore, klAfter] = [before.perSequence.kl, after.perSequence.kl];
  return klBefore && klAfter
    ? compareBeforeAfter(
        { metric: "klToTeacher", before: sums(klBefore), after: sums(klAfter), tokens, units },
        { seed },
      )
    : compareBeforeAfter(
        {
          metric: "nllPerToken",
          before: sums(before.perSequence.nll),
          after: sums(after.perSequence.nll),
          tokens,
          units,
        },
        { seed },
      );
}

type PerSequence = NonNullable<EvaluationFile["data"]["perSequence"]>;

/** Target positions of each sequence, and the document that it is of. */
export function perSequenceOf(sequences: TokenSequences): PerSequence {
  return {
    tokens: Array.from(sequences.lengths, (length) => length - 1),
    units: Array.from(textUnits(sequences)),
  };
}
