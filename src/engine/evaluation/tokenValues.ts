import type { TokenValues } from "../../protocol/evaluationTokens";
import type { TokenSequences } from "../data/sequences";
import type { PieceDecoder } from "../data/tokenizer";

/** Of the evaluated text's first tokens the values of each are kept: at most so many. */
const mostTokens = 2048;

/** Rows of an evaluation before they are averaged: row i is the prediction of token i + 1. */
export interface EvaluatedRows {
  /** [rows], nats */
  nll: Float32Array;
  /** [rows], nats; null without a teacher. */
  kl: Float32Array | null;
  /** [rows], 1 where a token is predicted. */
  isTarget: Uint8Array;
}

/** Values by the token that was predicted, to six digits; null for the first token of a sequence, padding and prompts. */
export function valuesByToken({ nll, kl, isTarget }: EvaluatedRows): TokenValues {
  const length = Math.min(nll.length, mostTokens);
  const values = (rows: Float32Array): (number | null)[] =>
    Array.from({ length }, (_, at) => (at > 0 && isTarget[at - 1] ? Number(rows[at - 1]!.toPrecision(6)) : null));
  return { nll: values(nll), kl: kl && values(kl) };
}

/** The text of the same tokens; "" for padding. */
export function evaluatedTokens(
  { ids, sequenceLength, lengths }: Pick<TokenSequences, "ids" | "sequenceLength" | "lengths">,
  decode: PieceDecoder,
): string[] {
  const isPadding = (at: number): boolean => at % sequenceLength >= lengths[Math.floor(at / sequenceLength)]!;
  return decode([...ids.subarray(0, mostTokens)]).map((piece, at) => (isPadding(at) ? "" : piece));
}
