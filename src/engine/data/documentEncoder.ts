import { RerouteError } from "../../protocol/errors";
import type { TextDocument } from "./documents";
import { encodePrefix } from "./encodePrefix";
import type { Tokenizer } from "./tokenizer";

export interface DocumentEncoding {
  path: string;
  /** Asked for at the first text: ready token ids need none. */
  tokenizer: Tokenizer | (() => Promise<Tokenizer>);
  /** Rows of the model's embedding: every id must be smaller. */
  vocabSize: number;
  packing: "packed" | "truncated";
}

/** Token ids of documents as sequences hold them, checked. */
export function documentEncoder({ path, tokenizer, vocabSize, packing }: DocumentEncoding) {
  let opened: Tokenizer | null = typeof tokenizer === "function" ? null : tokenizer;
  const open = async (): Promise<Tokenizer> => (opened ??= await (tokenizer as () => Promise<Tokenizer>)());
  const encodeText = async (text: string, needed: number): Promise<Int32Array> => {
    const { encode, endOfTextId } = await open();
    const ids = encodePrefix({ encode }, text, needed);
    if (packing === "truncated") return ids;
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
  return {
    /**
     * Packed: at least `needed` ids, with the end-of-text id behind a text. Truncated: at most `needed`.
     *
     * @param position of the document's first token, for messages
     * @throws `data/tokenizer`, `data/token-out-of-range`
     */
    encode: async (document: TextDocument, needed: number, position: number): Promise<Int32Array> => {
      const all = "ids" in document ? document.ids : await encodeText(document.text, needed);
      const ids = packing === "packed" ? all : all.slice(0, needed);
      const wrong = ids.findIndex((id) => id >= vocabSize);
      if (wrong < 0) return ids;
      const question =
        "ids" in document
          ? "Were the ids made with this checkpoint's tokenizer?"
          : "Does tokenizer.json belong to this checkpoint?";
      throw new RerouteError(
        "data/token-out-of-range",
        `token ${position + wrong} of ${path} has id ${ids[wrong]!}, but the model's vocabulary has ${vocabSize} entries. ${question}`,
      );
    },
    /** A padded position is never looked at; an id that every vocabulary has keeps embedding lookups in range. */
    padding: (): number => {
      const id = opened?.endOfTextId ?? null;
      return id !== null && id < vocabSize ? id : 0;
    },
  };
}
