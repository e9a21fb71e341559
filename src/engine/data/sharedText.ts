import { realpath, stat } from "node:fs/promises";
import { throwIfCancelled } from "../../protocol/errors";
import type { Packing } from "../../protocol/recipe";
import { readDocuments } from "./documents";
import { hashTextFiles, listTextFiles } from "./textFiles";

/** The part of a text that a run reads. */
export interface TextPart {
  path: string;
  column?: string | undefined;
  sequences: number;
  sequenceLength: number;
  packing: Packing;
}

/** What an evaluation text has in common with the text that was trained on; `shared` of its `passages` are in both. */
export interface SharedText {
  kind: "same file" | "same content" | "shared passages" | "nothing";
  shared: number;
  passages: number;
}

/** More than tokenizers make of one token on average; texts are compared before they are tokenised. */
const charactersPerToken = 6;
/** A window this long that is in two texts comes from the same source. */
const windowCharacters = 64;
const passageCharacters = 1024;
/** Windows in more passages than this are a template or a licence, which texts share without sharing documents. */
const maxPassagesOfWindow = 2;

/**
 * Whether an evaluation text was trained on: the same file, the same bytes, or passages found in both, wherever documents and
 * sequences are cut. A passage is shared when its whole document is in both, or when at least half of its windows of 64
 * characters are (white space counts as one space), templates left out.
 *
 * What was found is remembered while the files stay as they are: a run asks twice, and a comparison for each of its cells.
 *
 * @throws `data/not-found`, `data/malformed`, `cancelled`
 */
export async function sharedText(evaluation: TextPart, training: TextPart, signal?: AbortSignal): Promise<SharedText> {
  const key = JSON.stringify([evaluation, training, await stampOf(evaluation.path), await stampOf(training.path)]);
  const known = found.get(key);
  if (known) return known;
  const result = await compare(evaluation, training, signal);
  found.set(key, result);
  if (found.size > maxRemembered) found.delete(found.keys().next().value!);
  return result;
}

const found = new Map<string, SharedText>();
const maxRemembered = 16;

/** Names, sizes and times of a text's files. */
async function stampOf(path: string): Promise<unknown> {
  const files = await listTextFiles(path);
  return Promise.all(
    files.map(async (file) => {
      const { size, mtimeMs, ino } = await stat(file);
      return [file, size, mtimeMs, ino];
    }),
  );
}

async function compare(evaluation: TextPart, training: TextPart, signal?: AbortSignal): Promise<SharedText> {
  const passages = new Passages();
  for await (const document of documentsOf(evaluation, signal)) passages.add(document);
  const all = { shared: passages.count, passages: passages.count };
  if ((await realPathOf(evaluation.path)) === (await realPathOf(training.path))) return { kind: "same file", ...all };
  const [one, other] = [await hashTextFiles(evaluation.path, signal), await hashTextFiles(training.path, signal)];
  if (one === other) return { kind: "same content", ...all };
  for await (const document of documentsOf(training, signal)) passages.see(document);
  const shared = passages.shared();
  return { kind: shared > 0 ? "shared passages" : "nothing", shared, passages: passages.count };
}

/** A folder or file that is not there is its reader's to report. */
async function realPathOf(path: string): Promise<string> {
  return realpath(path).catch(() => path);
}

/** Documents with their white space normalised, as far as the run reads them. */
async function* documentsOf({ path, column, sequences, sequenceLength, packing }: TextPart, signal?: AbortSignal) {
  let left = sequences;
  const each = sequenceLength * charactersPerToken;
  for await (const read of readDocuments(path, { column })) {
    throwIfCancelled(signal);
    // Ready ids are compared as the text of their numbers; conversations as their turns, whatever template is between them.
    const text = "text" in read ? read.text : read.ids.join(" ");
    const most = packing === "packed" ? Math.ceil(left * each) : each;
    const document = text.slice(0, most).replace(/\s+/g, " ").trim();
    if (document !== "") yield document;
    left -= packing === "packed" ? text.length / each : 1;
    if (left <= 0) return;
  }
}

class Passages {
  /** Windows of each passage, by their hashes. */
  readonly #windows: number[][] = [];
  /** How many passages have a window, and whether the other text has it. */
  readonly #known = new Map<number, { passages: number; last: number; isSeen: boolean }>();
  /** By the upper 22 bits of a window's hash: most windows of another text need no look-up. */
  readonly #mayKnow = new Uint8Array(2 ** 22);
  /** Passages of each whole document, and whether the other text has it. */
  readonly #documents = new Map<string, { passages: number[]; isSeen: boolean }>();

  get count(): number {
    return this.#windows.length;
  }

  add(document: string): void {
    const first = this.count;
    for (let at = 0; at < document.length; at += passageCharacters) {
      const passage = this.count;
      const hashes: number[] = [];
      eachWindow(document.slice(at, at + passageCharacters), (hash) => {
        hashes.push(hash);
        this.#mayKnow[Math.floor(hash / 2 ** 31)] = 1;
        const known = this.#known.get(hash);
        if (known === undefined) this.#known.set(hash, { passages: 1, last: passage, isSeen: false });
        else if (known.last !== passage) {
          known.passages++;
          known.last = passage;
        }
      });
      this.#windows.push(hashes);
    }
    if (document.length < windowCharacters) return;
    const same = this.#documents.get(document) ?? { passages: [], isSeen: false };
    for (let passage = first; passage < this.count; passage++) same.passages.push(passage);
    this.#documents.set(document, same);
  }

  see(document: string): void {
    const whole = this.#documents.get(document);
    if (whole) whole.isSeen = true;
    const see = (hash: number) => {
      const known = this.#known.get(hash);
      if (known) known.isSeen = true;
    };
    eachWindow(document, see, (one) => this.#mayKnow[one >>> 10] === 1);
  }

  shared(): number {
    const isShared = this.#windows.map((hashes) => {
      const own = hashes.map((hash) => this.#known.get(hash)!).filter((w) => w.passages <= maxPassagesOfWindow);
      return own.length > 0 && own.filter((window) => window.isSeen).length >= own.length / 2;
    });
    for (const { passages, isSeen } of this.#documents.values())
      for (const passage of isSeen ? passages : []) isShared[passage] = true;
    return isShared.filter(Boolean).length;
  }
}

/** Odd multipliers of the two hashes. */
const [oneBase, otherBase] = [0x01000193, 0x85ebca6b];
const [oneLeading, otherLeading] = [power(oneBase), power(otherBase)];

/**
 * Rolling hashes of all windows of a text (Karp and Rabin 1987), two of them modulo 2^32, of which 53 bits name a window.
 * @param mayKnow leaves out windows by their first hash, before the second is looked at
 */
function eachWindow(text: string, visit: (window: number) => void, mayKnow?: (hash: number) => boolean): void {
  let [one, other] = [0, 0];
  for (let i = 0; i < text.length; i++) {
    if (i >= windowCharacters) {
      const out = scrambled(text.charCodeAt(i - windowCharacters));
      one -= Math.imul(out, oneLeading);
      other -= Math.imul(out, otherLeading);
    }
    const next = scrambled(text.charCodeAt(i));
    one = (Math.imul(one, oneBase) + next) | 0;
    other = (Math.imul(other, otherBase) + next) | 0;
    if (i < windowCharacters - 1 || mayKnow?.(one) === false) continue;
    visit((one >>> 0) * 2 ** 21 + (other >>> 11));
  }
}

function scrambled(character: number): number {
  return Math.imul(character + 1, 0x9e3779b1);
}

function power(base: number): number {
  let result = 1;
  for (let i = 1; i < windowCharacters; i++) result = Math.imul(result, base);
  return result;
}
