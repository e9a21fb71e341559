import { malformedRow, type Row } from "./formats/row";
import { parseJson } from "./formats/json";
import { maxTokenId } from "./tokenizerFiles";

/** One turn of a conversation, as chat templates take it; further members (tool_calls, reasoning_content) go along. */
export interface ChatMessage {
  [key: string]: unknown;
  role: string;
  content: unknown;
}

/** What a row says: a text, ready token ids, or a conversation that the checkpoint's chat template renders. */
export type Content =
  /** With the part of it that is asked, where it is one text in two parts. */
  | { kind: "text"; text: string; prompt?: string }
  | { kind: "ids"; ids: Int32Array }
  | { kind: "chat"; messages: ChatMessage[]; tools: unknown };

type Columns = Readonly<Record<string, unknown>>;

/** One way of laying out a row: the columns it has, and what they say; null for none (an empty cell). */
interface Layout {
  /** For messages and documents. */
  name: string;
  /** Columns that must all be there. */
  needs: readonly string[];
  /** Columns that are read where they are there. */
  takes?: readonly string[];
  read: (row: Columns, where: string) => Content | null;
}

const question = (role: "user" | "system", content: unknown): ChatMessage[] =>
  typeof content === "string" && content !== "" ? [{ role, content }] : [];

/** An instruction and its answer, under the names that data sets give them. */
function pair(ask: string, answer: string, takes: readonly string[] = []): Layout {
  return {
    name: `${ask}/${answer}`,
    needs: [ask, answer],
    takes: [...takes, "system"],
    read: (row, where) => {
      const [asked, answered] = [row[ask], row[answer]];
      // TRL's conversational form: both are lists of messages.
      if (Array.isArray(asked) || Array.isArray(answered)) {
        const lists = [asked, answered].map((list): unknown[] => (Array.isArray(list) ? list : []));
        return chat(lists.flat(), row, where);
      }
      if (isMissing(asked) && isMissing(answered)) return null;
      // TRL's standard form is one text in two parts, not a conversation.
      if (answer === "completion") {
        const [prompt, completion] = [asked, answered].map((t) => (isMissing(t) ? "" : asText(t, ask, where)));
        return { kind: "text", text: `${prompt}${completion}`, prompt: prompt! };
      }
      const more = takes.map((name) => row[name]).filter((text) => typeof text === "string" && text !== "");
      const user = [asked, ...more]
        .filter((text) => !isMissing(text))
        .map((text) => asText(text, ask, where))
        .join("\n\n");
      const turns = [...question("system", row["system"]), ...question("user", user)];
      return chat(
        [...turns, { role: "assistant", content: isMissing(answered) ? "" : asText(answered, answer, where) }],
        row,
        where,
      );
    },
  };
}

function conversation(column: string): Layout {
  return {
    name: column,
    needs: [column],
    takes: ["system", "tools"],
    read: (row, where) => {
      const turns = isMissing(row[column]) ? null : asList(row[column], column, where);
      if (turns === null || turns.length === 0) return null;
      const messages = [...question("system", row["system"]), ...turns];
      return chat(messages, row, where);
    },
  };
}

const idsOf = (column: string): Layout => ({
  name: column,
  needs: [column],
  takes: ["attention_mask"],
  read: (row, where) => {
    if (isMissing(row[column])) return null;
    const ids = asIds(asList(row[column], column, where), column, where);
    const mask = isMissing(row["attention_mask"]) ? null : asList(row["attention_mask"], "attention_mask", where);
    return { kind: "ids", ids: mask === null ? ids : ids.filter((_, i) => Number(mask[i] ?? 1) !== 0) };
  },
});

const textOf = (column: string): Layout => ({
  name: column,
  needs: [column],
  read: (row, where) => (isMissing(row[column]) ? null : { kind: "text", text: asText(row[column], column, where) }),
});

/**
 * The layouts that are known, the surest first: `datasets` with token ids; plain text; OpenAI's and TRL's `messages`, ShareGPT's
 * `conversations`; Alpaca's, Dolly's and TRL's pairs; and `content`, which other layouts use for parts of a message.
 */
export const layouts: readonly Layout[] = [
  ...["input_ids", "token_ids"].map(idsOf),
  textOf("text"),
  ...["messages", "conversations", "conversation"].map(conversation),
  pair("instruction", "output", ["input"]),
  pair("instruction", "response", ["context", "input"]),
  pair("prompt", "completion"),
  pair("prompt", "response"),
  pair("prompt", "chosen"),
  pair("question", "answer"),
  pair("question", "response"),
  conversation("chosen"),
  textOf("content"),
];

/** Every column that is read, beside one that is named. */
export function readColumns(column: string | undefined): ReadonlySet<string> {
  const known = layouts.flatMap(({ needs, takes = [] }) => [...needs, ...takes]);
  return new Set(["domain", ...(column === undefined ? known : [column, "system", "tools"])]);
}

/**
 * What a row says, by its columns, or by the one that is named; null where it says nothing (empty cells).
 *
 * @throws `data/malformed` with the columns that the row has, for one that is laid out in no known way
 */
export function contentOfRow({ value, where }: Row, column: string | undefined): Content | null {
  if (typeof value === "string") return { kind: "text", text: value };
  if (isArrayLike(value)) return contentOfList(Array.from(value), "the list", {}, where);
  if (typeof value !== "object" || value === null) {
    throw malformedRow(`${where} is not a JSON object, expected {"text": ..., "domain": ...}`);
  }
  const row = value as Columns;
  if (column !== undefined) return contentOfColumn(row, column, where);
  const found = layouts.find(({ needs }) => needs.every((key) => Object.hasOwn(row, key)));
  // An empty cell says nothing only where another layout does not: tables of several sources have columns of each.
  const filled = layouts.find(({ needs }) => needs.every((key) => Object.hasOwn(row, key) && !isMissing(row[key])));
  const layout = filled ?? found;
  if (layout) return layout.read(row, where);
  throw malformedRow(
    `${where} has no "text" and nothing else that is read; its keys are ${keysOf(row)}. Name the one with the text (--column KEY, ` +
      `data.column in a recipe), or use one of ${layouts.map(({ name }) => name).join(", ")}`,
  );
}

function contentOfColumn(row: Columns, column: string, where: string): Content | null {
  if (!Object.hasOwn(row, column)) {
    throw malformedRow(`${where} has no ${JSON.stringify(column)}, the column to read; its keys are ${keysOf(row)}`);
  }
  const value = parsedCell(row[column], where);
  if (isMissing(value)) return null;
  if (isArrayLike(value)) return contentOfList(Array.from(value), JSON.stringify(column), row, where);
  return { kind: "text", text: asText(value, column, where) };
}

/** Ids or messages, told by the first element. */
function contentOfList(items: unknown[], name: string, row: Columns, where: string): Content | null {
  const [first] = items;
  if (first === undefined) return null;
  if (typeof first === "number" || typeof first === "bigint") return { kind: "ids", ids: asIds(items, name, where) };
  if (typeof first === "object" && first !== null) return chat(items, row, where);
  throw malformedRow(`${where} is not a JSON object, a list of messages or a list of token ids`);
}

/** ShareGPT's and others' names of who speaks. */
const roles: Record<string, string | undefined> = {
  human: "user",
  user: "user",
  prompter: "user",
  gpt: "assistant",
  chatgpt: "assistant",
  bing: "assistant",
  bard: "assistant",
  model: "assistant",
  assistant: "assistant",
  system: "system",
  observation: "tool",
  function_response: "tool",
};

function chat(turns: unknown[], row: Columns, where: string): Content {
  const messages = turns.map((turn, i): ChatMessage => {
    if (typeof turn !== "object" || turn === null)
      throw malformedRow(`${where} has a message ${i + 1} that is no object`);
    const { role, from, content, value, ...more } = turn as Columns;
    const speaker = role ?? from;
    if (typeof speaker !== "string") {
      throw malformedRow(
        `${where} has a message ${i + 1} without "role" (or "from"); its keys are ${keysOf(turn as Columns)}`,
      );
    }
    const said = content ?? value ?? null;
    const given = Object.fromEntries(
      Object.entries(more).filter(([, member]) => member !== null && member !== undefined),
    );
    return { ...given, role: roles[speaker] ?? speaker, content: textParts(said, i, where) };
  });
  const tools = parsedCell(row["tools"], where) ?? null;
  return { kind: "chat", messages, tools: isArrayLike(tools) && tools.length > 0 ? Array.from(tools) : null };
}

/** Content in parts is joined where all of them are text. */
function textParts(content: unknown, message: number, where: string): unknown {
  if (!isArrayLike(content)) {
    if (content === null || typeof content === "string") return content;
    throw malformedRow(`${where} has a message ${message + 1} whose content is a ${typeof content}, expected text`);
  }
  const texts = Array.from(content, (part: unknown) => {
    if (typeof part === "string") return part;
    const { type, text } = (part ?? {}) as { type?: unknown; text?: unknown };
    if (typeof text === "string") return text;
    throw malformedRow(
      `${where} has a message ${message + 1} with a part of type ${JSON.stringify(type ?? null)}; only text is read`,
    );
  });
  return texts.join("");
}

/** Tables keep lists as JSON text. */
function parsedCell(value: unknown, where: string): unknown {
  return typeof value === "string" && /^\s*\[\s*[\]{"\d]/.test(value) ? parseJsonOrText(value, where) : value;
}

function parseJsonOrText(text: string, where: string): unknown {
  try {
    return parseJson(text, where);
  } catch {
    return text;
  }
}

function asList(value: unknown, column: string, where: string): unknown[] {
  const list = parsedCell(value, where);
  if (isArrayLike(list)) return Array.from(list);
  throw malformedRow(`${where} has a ${JSON.stringify(column)} that is not a list`);
}

function asText(value: unknown, column: string, where: string): string {
  if (typeof value === "string") return value;
  throw malformedRow(
    `${where} has a ${JSON.stringify(column)} that is not a string but ${describe(value)}. Name another column with --column KEY`,
  );
}

function asIds(items: unknown[], column: string, where: string): Int32Array {
  return Int32Array.from(items, (item, i) => {
    const id = typeof item === "bigint" ? Number(item) : item;
    if (typeof id === "number" && Number.isInteger(id) && id >= 0 && id <= maxTokenId) return id;
    throw malformedRow(
      `${where} has in ${column} at ${i} ${describe(item)}, expected a token id of 0 to ${maxTokenId}`,
    );
  });
}

function isMissing(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === "number" && Number.isNaN(value));
}

function isArrayLike(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

function describe(value: unknown): string {
  if (isArrayLike(value)) return "a list";
  if (typeof value === "object") return value === null ? "null" : "an object";
  return JSON.stringify(typeof value === "string" ? value.slice(0, 40) : `${value as number}`);
}

function keysOf(row: Columns): string {
  const keys = Object.keys(row);
  const shown = keys.slice(0, 12).map((key) => JSON.stringify(key.slice(0, 60)));
  return `${shown.join(", ") || "none"}${keys.length > 12 ? `, and ${keys.length - 12} more` : ""}`;
}
