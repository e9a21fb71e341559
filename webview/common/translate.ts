import { english, type Translate } from "../../src/protocol/translate";

/** Sentences in the editor's language by the English ones, which the host writes into the page's shell. */
const sentences = new Map(Object.entries(readSentences()));

/** A sentence in the editor's language, with {0}, {1} filled in; in English where nobody has translated it. */
export const t: Translate = (message, ...args) => english(sentences.get(message) ?? message, ...args);

function readSentences(): Record<string, string> {
  // Pure parts of pages are tested without a page.
  const { document: page } = globalThis as unknown as { document?: Page };
  const written = page?.querySelector('meta[name="sentences"]')?.content;
  return written === undefined ? {} : (JSON.parse(written) as Record<string, string>);
}

interface Page {
  querySelector(selector: string): { content: string } | null;
}
