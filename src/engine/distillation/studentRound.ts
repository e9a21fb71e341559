import type { CalibrateOptions } from "../../protocol/calibrateOptions";
import type { TokenSequences } from "../data/sequences";

/** A sequence's beginning, and a number that no other has in the run. */
export interface RoundPrompt {
  number: number;
  ids: Int32Array;
}

/** What the student writes behind each prompt, its end token included, so that both together have at most `mostTokens`. */
export type RoundWriter = (prompts: readonly RoundPrompt[], mostTokens: number) => Promise<Int32Array[]>;

export interface StudentRound {
  sequences: TokenSequences;
  /** [numSequences], 1 where the student wrote behind the prompt. */
  written: Uint8Array;
}

/**
 * The sequences of a round: `share` of them as the student continues them, spread evenly, the others as the text has them. Of
 * the former, `replay` are taken again from what it wrote a round before. Only what the student wrote is learned from in its
 * sequences (`promptLengths`); of the text, everything.
 */
export async function studentRound({
  text,
  before,
  onPolicy: { share, replay, promptTokens },
  write,
  firstNumber,
}: {
  text: TokenSequences;
  before: StudentRound | null;
  onPolicy: NonNullable<CalibrateOptions["onPolicy"]>;
  write: RoundWriter;
  firstNumber: number;
}): Promise<StudentRound> {
  const { sequenceLength, numSequences } = text;
  const result: TokenSequences = {
    ...text,
    ...{ ids: text.ids.slice(), lengths: text.lengths.slice() },
    promptLengths: text.promptLengths?.slice() ?? new Int32Array(numSequences),
  };
  const written = new Uint8Array(numSequences);
  const put = (sequence: number, parts: readonly Int32Array[], prompt: number) => {
    const row = result.ids.subarray(sequence * sequenceLength, (sequence + 1) * sequenceLength).fill(0);
    let at = 0;
    for (const part of parts) {
      row.set(part, at);
      at += part.length;
    }
    result.lengths[sequence] = at;
    result.promptLengths![sequence] = prompt;
    written[sequence] = 1;
  };
  const continued = spread(numSequences, share);
  const again =
    before === null ? new Set<number>() : new Set(spread(continued.length, replay).map((i) => continued[i]!));
  const old = before === null ? [] : [...before.written.keys()].filter((s) => before.written[s] === 1);
  const prompts: (RoundPrompt & { sequence: number })[] = [];
  for (const [i, sequence] of continued.entries()) {
    const source = again.has(sequence) && old.length > 0 ? old[i % old.length]! : null;
    if (source !== null) {
      put(sequence, [tokensIn(before!.sequences, source)], before!.sequences.promptLengths![source]!);
      continue;
    }
    const own = text.promptLengths?.[sequence] ?? 0;
    const length = own > 0 ? own : Math.min(promptTokens, text.lengths[sequence]!);
    const ids = tokensIn(text, sequence).slice(0, length);
    prompts.push({ number: firstNumber + sequence, ids, sequence });
  }
  const responses = await write(prompts, sequenceLength);
  prompts.forEach(({ sequence, ids }, i) => put(sequence, [ids, responses[i]!], ids.length));
  return { sequences: result, written };
}

function tokensIn({ ids, lengths, sequenceLength }: TokenSequences, sequence: number): Int32Array {
  return ids.subarray(sequence * sequenceLength, sequence * sequenceLength + lengths[sequence]!);
}

/** round(share * count) numbers below `count`, evenly apart. */
function spread(count: number, share: number): number[] {
  return Array.from({ length: count }, (_, i) => i).filter((i) => Math.round((i + 1) * share) > Math.round(i * share));
}
