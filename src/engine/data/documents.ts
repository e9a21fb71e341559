import { open } from "node:fs/promises";
import { RerouteError } from "../../protocol/errors";
import { textFormatOf } from "../../protocol/textFormats";
import { refusePointerFile } from "../checkpoint/smallFile";
import type { ChatTemplate } from "./chatTemplate";
import { contentOfRow, readColumns, type ChatMessage, type Content } from "./columns";
import { readBytes } from "./formats/bytes";
import { rowReaders } from "./formats";
import { malformedRow, type Row, type RowReader } from "./formats/row";
import { listTextFiles, unreadable } from "./textFiles";

/** One text of a corpus, or its token ids where the corpus holds them ready. */
export type TextDocument = {
  /** What the text is about, as its file says: routing statistics are split by it. */
  domain: string;
} & ({ text: string; answer?: AnswerSplit } | { ids: Int32Array });

/** Where a text's answer begins. */
export interface AnswerSplit {
  /** What comes before it. */
  prompt: string;
  /** By a chat template, which ends the text itself, and whose tokens may reach across the border. */
  isRendered: boolean;
  /** The answer as the row has it. */
  response: string;
  /** What is asked, where the row is a conversation. */
  conversation: Pick<Conversation, "messages" | "tools"> | null;
  where: string;
}

export interface ReadOptions {
  /** The column to read; left out, it is told from the columns that are there. */
  column?: string | undefined;
  /** Renders conversations; without one their turns are joined by blank lines. */
  chat?: (() => Promise<ChatTemplate | null>) | undefined;
  /** Also says where the answer begins, of rows that are an instruction and its answer; others are refused. */
  splitsAnswers?: boolean | undefined;
  /** Told once what had to be assumed. */
  onNote?: ((note: string) => void) | undefined;
}

/** The domain of documents that name none. */
export const unlabelledDomain = "unlabelled";
/** Domains are names shown in charts and tables, not texts. */
export const maxDomainCharacters = 200;

/**
 * Documents of a corpus in file order, streamed: a consumer that has enough simply stops. `formats/` reads the kinds of files,
 * `columns.ts` says what their rows mean. Empty documents are skipped.
 *
 * @throws `data/not-found`, `data/chat-template`, `checkpoint/lfs-pointer`, or `data/malformed` naming file and line
 */
export async function* readDocuments(path: string, options: ReadOptions = {}): AsyncGenerator<TextDocument> {
  const columns = readColumns(options.column);
  const render = chatRenderer(options);
  for (const file of await listTextFiles(path)) {
    const { format, compression } = textFormatOf(file)!;
    const read = format === null ? readUnnamed : rowReaders[format];
    try {
      await refusePointer(file);
      for await (const row of read({ path: file, compression, columns, wholeText: file !== path })) {
        const content = contentOfRow(row, options.column);
        if (content === null) continue;
        const domain = domainOf(row);
        if (content.kind === "ids") {
          if (options.splitsAnswers) throw noAnswer(row.where, "token ids");
          if (content.ids.length > 0) yield { ids: content.ids, domain };
          continue;
        }
        if (options.splitsAnswers) {
          yield { ...(await splitAnswer(content, row.where, render)), domain };
          continue;
        }
        const text = content.kind === "text" ? content.text : await render(content, row.where);
        if (text !== "") yield { text, domain };
      }
    } catch (cause) {
      throw cause instanceof RerouteError ? cause : unreadable(file, cause);
    }
  }
}

/** What lies there before Git LFS has put the file in its place is no text, although it reads like some. */
async function refusePointer(path: string): Promise<void> {
  const file = await open(path);
  try {
    await refusePointerFile(file, path);
  } finally {
    await file.close();
  }
}

/** A compressed file that does not say what is in it, such as corpus.gz: JSON by its first character, else text. */
const readUnnamed: RowReader = async function* (source) {
  let first = "";
  for await (const chunk of readBytes(source.path, source.compression)) {
    first = Buffer.from(chunk)
      .toString("latin1")
      .replace(/^\u00ef\u00bb\u00bf/, "")
      .trimStart();
    if (first !== "") break;
  }
  yield* rowReaders[/^[{[]/.test(first) ? "json" : "txt"](source);
};

type Conversation = Extract<Content, { kind: "chat" }>;

/** A conversation as text, and whether a template made it; `asksForAnswer`: up to where the answer begins. */
type Renderer = (conversation: Conversation & { asksForAnswer?: boolean }, where: string) => Promise<string>;

/**
 * An instruction with its answer as one text, and where the answer begins; of a conversation, its last turn.
 * @throws `data/malformed` where there is no answer, or an empty one
 */
async function splitAnswer(
  content: Exclude<Content, { kind: "ids" }>,
  where: string,
  render: Renderer & { isTemplate: () => Promise<boolean> },
): Promise<{ text: string; answer: AnswerSplit }> {
  if (content.kind === "text") {
    const { text, prompt } = content;
    if (prompt === undefined) throw noAnswer(where, "a plain text");
    if (text.slice(prompt.length).trim() === "") throw noAnswer(where, "an empty answer");
    const response = text.slice(prompt.length);
    return { text, answer: { prompt, isRendered: false, response, conversation: null, where } };
  }
  const { messages } = content;
  const last = messages.at(-1);
  if (last?.role !== "assistant") throw noAnswer(where, "a conversation that does not end with an answer");
  if (typeof last.content !== "string" || last.content.trim() === "") throw noAnswer(where, "an empty answer");
  const asked = { ...content, messages: messages.slice(0, -1) };
  const common = { response: last.content, conversation: asked, where };
  if (await render.isTemplate()) {
    const prompt = await render({ ...asked, asksForAnswer: true }, where);
    return { text: await render(content, where), answer: { prompt, isRendered: true, ...common } };
  }
  const prompt = `${await render(asked, where)}\n\n`;
  return { text: `${prompt}${last.content}`, answer: { prompt, isRendered: false, ...common } };
}

function noAnswer(where: string, found: string): RerouteError {
  return malformedRow(
    `${where} has ${found}, and answers are what counts (packing responses); give instruction and response, prompt and completion or messages that end with the assistant's, all with text, or use another packing`,
  );
}

function chatRenderer({ chat, onNote }: ReadOptions): Renderer & { isTemplate: () => Promise<boolean> } {
  let template: ChatTemplate | null | undefined;
  const load = async () => {
    if (template !== undefined) return template;
    template = (await chat?.()) ?? null;
    if (template === null) {
      onNote?.(
        "The checkpoint has no chat template: conversations are read as their turns, joined by blank lines, without roles",
      );
    }
    return template;
  };
  const render: Renderer = async (conversation, where) =>
    (await load())?.render(conversation, where) ?? plainText(conversation.messages);
  return Object.assign(render, { isTemplate: async () => (await load()) !== null });
}

function plainText(messages: ChatMessage[]): string {
  const turns = messages.map(({ content }) => content).filter((turn) => typeof turn === "string" && turn.trim() !== "");
  return turns.join("\n\n");
}

/** Numbers and truth values become their text; NaN, null and whatever is no name are no domain. */
function domainOf({ value, where }: Row): string {
  const given: unknown = typeof value === "object" && value !== null && "domain" in value ? value.domain : undefined;
  const isName =
    typeof given === "number" ? Number.isFinite(given) : ["string", "boolean", "bigint"].includes(typeof given);
  const domain = isName ? String(given) : "";
  if (domain === "") return unlabelledDomain;
  if (domain.length > maxDomainCharacters) {
    throw malformedRow(`${where} has a "domain" of ${domain.length} characters, the limit is ${maxDomainCharacters}`);
  }
  // Results are keyed by domain in JSON files; this one key does not survive being read back.
  if (domain === "__proto__") throw malformedRow(`${where} has the domain "__proto__", which cannot be used as a name`);
  return domain;
}
