import { RerouteError } from "../../protocol/errors";
import type { Packing } from "../../protocol/recipe";
import type { AnswerSplit, TextDocument } from "./documents";
import { malformedRow } from "./formats/row";
import { encodePrefix } from "./encodePrefix";
import type { Tokenizer } from "./tokenizer";

export interface DocumentEncoding {
  path: string;
  /** Asked for at the first text: ready token ids need none. */
  tokenizer: Tokenizer | (() => Promise<Tokenizer>);
  /** Rows of the model's embedding: every id must be smaller. */
  vocabSize: number;
  packing: Packing;
}

/** Token ids of documents as sequences hold them, checked. */
export function documentEncoder({ path, tokenizer, vocabSize, packing }: DocumentEncoding) {
  let opened: Tokenizer | null = typeof tokenizer === "function" ? null : tokenizer;
  const open = async (): Promise<Tokenizer> => (opened ??= await (tokenizer as () => Promise<Tokenizer>)());
  const encodeText = async (text: string, needed: number): Promise<Int32Array> => {
    const { encode, endOfTextId } = await open();
    const ids = encodePrefix({ encode }, text, needed);
    if (packing !== "packed") return ids;
    if (endOfTextId === null) {
      throw new RerouteError(
        "data/tokenizer",
        `packing ${path} needs an end-of-text token, but neither tokenizer_config.json nor config.json names one. Set eos_token_id in config.json, or use truncated sequences`,
      );
    }
    const separated = new Int32Array(ids.length + 1);
    separated.set(ids);
    separated[ids.length] = endOfTextId;
    return separated;
  };
  const checked = (ids: Int32Array, isReady: boolean, position: number): Int32Array => {
    const wrong = ids.findIndex((id) => id >= vocabSize);
    if (wrong < 0) return ids;
    const question = isReady
      ? "Were the ids made with this checkpoint's tokenizer?"
      : "Does tokenizer.json belong to this checkpoint?";
    throw new RerouteError(
      "data/token-out-of-range",
      `token ${position + wrong} of ${path} has id ${ids[wrong]!}, but the model's vocabulary has ${vocabSize} entries. ${question}`,
    );
  };
  /**
   * An instruction and its answer, at most `needed` ids, and how many of them are the instruction's. A template's text is
   * tokenised whole; of others both parts, with the end-of-text token behind.
   */
  const encodeAnswer = async (text: string, { prompt, isRendered, where }: AnswerSplit, needed: number) => {
    const { encode, endOfTextId } = await open();
    const asked = encode(prompt);
    const whole = isRendered ? encode(text) : null;
    const differs = whole === null ? -1 : asked.findIndex((id, i) => id !== whole[i]);
    if (differs >= 0)
      throw malformedRow(
        `${where} is written by the chat template in another way with its answer than without: token ${differs + 1} is ${whole![differs] ?? "missing"}, expected ${asked[differs]!}; use another template, or plain prompt and completion`,
      );
    const end = endOfTextId === null ? [] : [endOfTextId];
    const ids = whole ?? Int32Array.from([...asked, ...encode(text.slice(prompt.length)), ...end]);
    return { ids: ids.slice(0, needed), promptLength: asked.length };
  };
  const encodeDocument = async (document: TextDocument, needed: number, position: number): Promise<Int32Array> => {
    const all = "ids" in document ? document.ids : await encodeText(document.text, needed);
    return checked(packing === "packed" ? all : all.slice(0, needed), "ids" in document, position);
  };
  return {
    /**
     * The same with the number of ids before an answer; 0 where there is none.
     * @throws `data/malformed` too, where a template's instruction is not the beginning of the whole
     */
    encodeParts: async (document: TextDocument, needed: number, position: number) => {
      if (!("text" in document) || !document.answer)
        return { ids: await encodeDocument(document, needed, position), promptLength: 0 };
      const { ids, promptLength } = await encodeAnswer(document.text, document.answer, needed);
      return { ids: checked(ids, false, position), promptLength };
    },
    /**
     * Packed: at least `needed` ids, with the end-of-text id behind a text. Truncated: at most `needed`.
     *
     * @param position of the document's first token, for messages
     * @throws `data/tokenizer`, `data/token-out-of-range`
     */
    encode: encodeDocument,
    /** A padded position is never looked at; an id that every vocabulary has keeps embedding lookups in range. */
    padding: (): number => {
      const id = opened?.endOfTextId ?? null;
      return id !== null && id < vocabSize ? id : 0;
    },
  };
}
