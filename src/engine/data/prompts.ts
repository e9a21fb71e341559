import { RerouteError } from "../../protocol/errors";
import type { GenerationPrompt } from "../../protocol/generation";
import { textFormatOf } from "../../protocol/textFormats";
import { contentOfRow, type ChatMessage } from "./columns";
import { rowReaders } from "./formats";
import { malformedRow, type Row } from "./formats/row";
import { listTextFiles, unreadable } from "./textFiles";

/** Where prompts are looked for in a row, the surest first. An instruction takes its input or context along. */
const promptColumns = [
  ...["messages", "conversations", "conversation"],
  ...["prompt", "instruction", "question", "text", "content"],
];
const companions = ["input", "context"];

/**
 * Prompts of files of the kinds that texts have, in file order: the columns `messages`, `conversations`, `prompt`,
 * `instruction` (with `input` or `context` behind it), `question`, `text` or `content`, or the one that is named. Answers at the
 * end of a conversation are left out.
 *
 * @throws RerouteError `data/not-found`, `data/malformed`
 */
export async function* readPrompts(
  path: string,
  column?: string,
): AsyncGenerator<GenerationPrompt & { where: string }> {
  const columns = new Set([
    ...(column === undefined ? [...promptColumns, ...companions] : [column]),
    "system",
    "tools",
  ]);
  for (const file of await listTextFiles(path)) {
    const { format, compression } = textFormatOf(file)!;
    const read = rowReaders[format ?? "txt"];
    try {
      for await (const row of read({ path: file, compression, columns, wholeText: file !== path })) {
        const prompt = promptOfRow(row, column);
        if (prompt !== null) yield { ...prompt, where: row.where };
      }
    } catch (cause) {
      throw cause instanceof RerouteError ? cause : unreadable(file, cause);
    }
  }
}

function promptOfRow(row: Row, column: string | undefined): GenerationPrompt | null {
  const { value, where } = row;
  if (typeof value === "string") return { text: value };
  const record = (value ?? {}) as { [key: string]: unknown };
  const named = column ?? promptColumns.find((key) => record[key] !== undefined && record[key] !== null);
  if (named === undefined) {
    throw malformedRow(
      `${where} has none of ${promptColumns.map((key) => JSON.stringify(key)).join(", ")}; name the one with the prompt (--column KEY)`,
    );
  }
  const content = contentOfRow(row, named);
  if (content === null) return null;
  if (content.kind === "ids") throw malformedRow(`${where} holds token ids, expected a text or messages`);
  if (content.kind === "chat") {
    const messages = withSystem(asked(content.messages), record["system"]);
    return { messages, ...(content.tools === null ? {} : { tools: content.tools }) };
  }
  const more = named === "instruction" ? companions.map((key) => record[key]).filter(isText) : [];
  return { text: [content.text, ...more].join("\n\n") };
}

/** The turns up to the last one that is not an answer. */
function asked(messages: ChatMessage[]): ChatMessage[] {
  const last = messages.findLastIndex(({ role }) => role !== "assistant");
  return messages.slice(0, last + 1);
}

function withSystem(messages: ChatMessage[], system: unknown): ChatMessage[] {
  return isText(system) ? [{ role: "system", content: system }, ...messages] : messages;
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}
