import { RerouteError, throwIfCancelled } from "../../protocol/errors";
import type { Packing } from "../../protocol/recipe";
import { documentEncoder, type DocumentEncoding } from "./documentEncoder";
import { readDocuments, type ReadOptions } from "./documents";
import { DomainNames } from "./domainNames";
import type { TokenSequences } from "./sequences";
import { hashTextFiles } from "./textFiles";

export interface BuildSequencesOptions extends DocumentEncoding, ReadOptions {
  /** A file, a folder or a pattern, as listTextFiles takes it. */
  path: string;
  /** Sequences wanted; the first ones in file order. */
  sequences: number;
  /** Tokens a sequence, at least 2. */
  sequenceLength: number;
  /**
   * `packed`: documents tokenised in file order, each followed by the end-of-text id (ready token ids by nothing), cut every
   * `sequenceLength` tokens; what is left at the end is dropped. `truncated`: one document a sequence, cut at the length; a shorter one is padded and counted
   * by `lengths`, one of fewer than 2 tokens is skipped, since it predicts nothing. `responses`: one instruction and its answer
   * a sequence, of which the answer counts (`promptLengths`); where the instruction alone fills it, it is skipped with a note.
   */
  packing: Packing;
  signal?: AbortSignal | undefined;
}

/** A sequence of one token has no next token to predict. */
export const minTokensOfSequence = 2;
/** Beyond this a plan of a run is a mistake: 2^31 tokens are 8 GiB of ids. */
export const maxTokens = 2 ** 31 - 1;

/**
 * The first `sequences` sequences of a text, reading no further than needed. Where the text is too short for all of them, those
 * it has are returned: compare `numSequences` and warn.
 *
 * @throws `data/too-few-tokens` when there is not a single sequence, `data/token-out-of-range`, `data/tokenizer`,
 *   `data/malformed`, `data/not-found`, `arguments/invalid`, `cancelled`
 */
export async function buildSequences(options: BuildSequencesOptions): Promise<TokenSequences> {
  checkArguments(options);
  const collected = options.packing === "packed" ? await collectPacked(options) : await collectTruncated(options);
  const { numSequences, tokensFound } = collected;
  if (numSequences === 0) {
    const needed = options.packing === "packed" ? options.sequenceLength : minTokensOfSequence;
    const unit = options.packing === "packed" ? "a sequence" : "a document";
    throw new RerouteError(
      "data/too-few-tokens",
      `${options.path} gives ${tokensFound} tokens, but ${unit} needs ${needed}. Add text or shorten the sequences`,
    );
  }
  const sourceSha256 = await hashTextFiles(options.path, options.signal);
  const { tokensFound: _, ...sequences } = collected;
  return { ...sequences, sequenceLength: options.sequenceLength, sourceSha256 };
}

type Collected = Omit<TokenSequences, "sourceSha256" | "sequenceLength"> & { tokensFound: number };

async function collectPacked(options: BuildSequencesOptions): Promise<Collected> {
  const { path, sequences, sequenceLength, signal } = options;
  const encoder = documentEncoder(options);
  const wanted = sequences * sequenceLength;
  const pieces: { ids: Int32Array; domain: number }[] = [];
  const domains = new DomainNames();
  let tokensFound = 0;
  for await (const document of readDocuments(path, options)) {
    throwIfCancelled(signal);
    const ids = await encoder.encode(document, wanted - tokensFound, tokensFound);
    pieces.push({ ids, domain: domains.indexOf(document.domain) });
    tokensFound += ids.length;
    if (tokensFound >= wanted) break;
  }

  const numSequences = Math.min(sequences, Math.floor(tokensFound / sequenceLength));
  const ids = new Int32Array(numSequences * sequenceLength);
  const domainIds = new Uint8Array(ids.length);
  const documentIds = new Int32Array(ids.length);
  let filled = 0;
  for (const [document, { ids: piece, domain }] of pieces.entries()) {
    const used = Math.min(piece.length, ids.length - filled);
    ids.set(piece.subarray(0, used), filled);
    domainIds.fill(domain, filled, filled + used);
    documentIds.fill(document, filled, filled + used);
    filled += used;
  }
  const lengths = new Int32Array(numSequences).fill(sequenceLength);
  const domainNames = domains.namesUpTo(domainIds);
  return { ids, numSequences, lengths, domainIds, domainNames, documentIds, tokensFound };
}

async function collectTruncated(options: BuildSequencesOptions): Promise<Collected> {
  const { path, sequences, sequenceLength, signal } = options;
  const encoder = documentEncoder(options);
  const pieces: { ids: Int32Array; domain: number; promptLength: number }[] = [];
  const domains = new DomainNames();
  const splitsAnswers = options.packing === "responses";
  let tokensFound = 0;
  let withoutRoom = 0;
  for await (const document of readDocuments(path, { ...options, splitsAnswers })) {
    throwIfCancelled(signal);
    const { ids, promptLength } = await encoder.encodeParts(document, sequenceLength, tokensFound);
    tokensFound += ids.length;
    if (promptLength >= sequenceLength) withoutRoom++;
    if (ids.length < Math.max(minTokensOfSequence, promptLength + 1)) continue;
    pieces.push({ ids, domain: domains.indexOf(document.domain), promptLength });
    if (pieces.length === sequences) break;
  }
  if (withoutRoom > 0)
    options.onNote?.(
      `${withoutRoom} instructions of ${path} have ${sequenceLength} tokens or more, which leaves no room for an answer, and are left out`,
    );

  const numSequences = pieces.length;
  const ids = new Int32Array(numSequences * sequenceLength).fill(encoder.padding());
  const domainIds = new Uint8Array(ids.length);
  const documentIds = Int32Array.from(ids, (_, i) => Math.floor(i / sequenceLength));
  pieces.forEach((piece, s) => {
    ids.set(piece.ids, s * sequenceLength);
    domainIds.fill(piece.domain, s * sequenceLength, (s + 1) * sequenceLength);
  });
  const lengths = Int32Array.from(pieces, (piece) => piece.ids.length);
  const domainNames = domains.namesUpTo(domainIds);
  const answers = splitsAnswers ? { promptLengths: Int32Array.from(pieces, ({ promptLength }) => promptLength) } : {};
  return { ids, numSequences, lengths, ...answers, domainIds, domainNames, documentIds, tokensFound };
}

function checkArguments({ sequences, sequenceLength, vocabSize }: BuildSequencesOptions): void {
  const check = (name: string, value: number, least: number) => {
    if (Number.isSafeInteger(value) && value >= least) return;
    throw new RerouteError("arguments/invalid", `${name} is ${value}, expected an integer of at least ${least}`);
  };
  check("sequences", sequences, 1);
  check("sequenceLength", sequenceLength, minTokensOfSequence);
  check("vocabSize", vocabSize, 1);
  if (sequences * sequenceLength <= maxTokens) return;
  throw new RerouteError(
    "arguments/invalid",
    `${sequences} sequences of ${sequenceLength} tokens are more than ${maxTokens} tokens in all`,
  );
}
