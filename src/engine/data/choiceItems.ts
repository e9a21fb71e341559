import { RerouteError } from "../../protocol/errors";
import { textFormatOf } from "../../protocol/textFormats";
import { rowReaders } from "./formats";
import { malformedRow, type Row } from "./formats/row";
import type { TokenSequences } from "./sequences";
import { listTextFiles, unreadable } from "./textFiles";
import type { Tokenizer } from "./tokenizer";

/** A question with its possible continuations, of which one is right. */
export interface ChoiceItem {
  context: string;
  /** What may follow the context, as it follows it: a leading space is part of it. */
  choices: string[];
  /** Number of the right one, from 0. */
  gold: number;
}

/** Files of tasks are small; this many forward passes of a sentence are hours. */
const maxItems = 100_000;

/**
 * The items of a task: rows of `context`, `choices` and `gold`, or samples as lm-evaluation-harness logs them, whose `arguments` hold
 * context and continuation of each choice and whose `target` is the right one.
 *
 * @throws RerouteError `data/not-found`, `data/malformed` naming the row
 */
export async function readChoiceItems(path: string): Promise<ChoiceItem[]> {
  const items: ChoiceItem[] = [];
  const columns = new Set(["context", "choices", "gold", "arguments", "target"]);
  for (const file of await listTextFiles(path)) {
    const { format, compression } = textFormatOf(file)!;
    try {
      for await (const row of rowReaders[format ?? "txt"]({ path: file, compression, columns, wholeText: false })) {
        items.push(itemOf(row));
        if (items.length > maxItems) throw malformedRow(`${file} has more than ${maxItems} items; use a part of them`);
      }
    } catch (cause) {
      throw cause instanceof RerouteError ? cause : unreadable(file, cause);
    }
  }
  if (items.length === 0) throw malformedRow(`${path} holds no item`);
  return items;
}

function itemOf({ value, where }: Row): ChoiceItem {
  const row = (value ?? {}) as { [key: string]: unknown };
  const logged = row["arguments"] === undefined ? null : loggedItem(row);
  const { context, choices, gold } = logged ?? row;
  const right = typeof gold === "string" && /^\d+$/.test(gold) ? Number(gold) : gold;
  if (typeof context !== "string") throw malformedRow(`${where} has no text as "context"`);
  const isList = Array.isArray(choices) && choices.every((choice) => typeof choice === "string" && choice !== "");
  if (!isList || choices.length < 2) throw malformedRow(`${where} has no list of two or more texts as "choices"`);
  if (!Number.isInteger(right) || (right as number) < 0 || (right as number) >= choices.length)
    throw malformedRow(
      `${where} says the right choice is ${JSON.stringify(gold) ?? "nothing"}, expected its number from 0 to ${choices.length - 1}`,
    );
  return { context, choices: choices as string[], gold: right as number };
}

/** `arguments` of a logged sample: a list of pairs, or objects `gen_args_0` with `arg_0` and `arg_1`. */
function loggedItem(row: { [key: string]: unknown }): { context: unknown; choices: unknown[]; gold: unknown } {
  const given = row["arguments"];
  const pairs: unknown[] = Array.isArray(given) ? given : Object.values(given ?? {});
  const part = (pair: unknown, i: 0 | 1): unknown =>
    Array.isArray(pair) ? pair[i] : (pair as { [key: string]: unknown } | null)?.[`arg_${i}`];
  return { context: part(pairs[0], 0), choices: pairs.map((pair) => part(pair, 1)), gold: row["target"] };
}

/** Where a choice's tokens lie: of its sequence, from `from` on. */
export interface ChoiceSpan {
  item: number;
  choice: number;
  from: number;
}

/**
 * One sequence a choice, its context in front; what is longer than the model reads loses the beginning of its context. Context
 * and choice are encoded together and the choice's tokens are those behind the context's own, as lm-evaluation-harness has it;
 * spaces at the end of the context count to the choice. A context without tokens is the end-of-text token.
 *
 * @param longest tokens that the model reads
 * @throws RerouteError `data/malformed` for a choice without tokens
 */
export function choiceSequences(
  items: readonly ChoiceItem[],
  { encode, endOfTextId }: Pick<Tokenizer, "encode" | "endOfTextId">,
  longest: number,
): { sequences: TokenSequences; spans: ChoiceSpan[] } {
  const spans: ChoiceSpan[] = [];
  const rows: Int32Array[] = [];
  for (const [item, { context, choices }] of items.entries()) {
    const trimmed = context.trimEnd();
    const spaces = context.slice(trimmed.length);
    const alone = encode(trimmed);
    const first = alone.length === 0 && endOfTextId !== null ? Int32Array.of(endOfTextId) : alone;
    for (const [choice, text] of choices.entries()) {
      const whole = encode(trimmed + spaces + text);
      const own = whole.subarray(alone.length);
      if (own.length === 0 || own.length + 1 > longest || first.length === 0)
        throw malformedRow(
          `Item ${item + 1}, choice ${choice + 1}: ${own.length} tokens behind ${first.length} of its context; a choice needs 1 to ${longest - 1} behind at least one`,
        );
      const before = whole.length > alone.length && alone.length > 0 ? whole.subarray(0, alone.length) : first;
      const kept = before.subarray(Math.max(0, before.length + own.length - longest));
      rows.push(Int32Array.of(...kept, ...own));
      spans.push({ item, choice, from: kept.length });
    }
  }
  const sequenceLength = rows.reduce((most, { length }) => Math.max(most, length), 2);
  const ids = new Int32Array(rows.length * sequenceLength);
  rows.forEach((row, i) => ids.set(row, i * sequenceLength));
  const sequences: TokenSequences = {
    ids,
    numSequences: rows.length,
    sequenceLength,
    lengths: Int32Array.from(rows, ({ length }) => length),
    domainIds: new Uint8Array(ids.length),
    domainNames: ["task"],
    sourceSha256: "",
  };
  return { sequences, spans };
}
