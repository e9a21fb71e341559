import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { RerouteError } from "../../protocol/errors";
import type { ChatMessage } from "./columns";
import { contentOf, readJson } from "./tokenizerFiles";
import { TimeLimitExceeded, withTimeLimit } from "../checkpoint/timeLimit";

export interface Conversation {
  messages: ChatMessage[];
  tools: unknown;
  /** Ends the text where the assistant's answer begins. */
  asksForAnswer?: boolean;
}

/** A checkpoint's way of writing a conversation as text. */
export interface ChatTemplate {
  /** @throws `data/chat-template`, with the template's own message where it refuses the conversation */
  render: (conversation: Conversation, where: string) => string;
}

/** The longest known ones have 20 kB. */
const maxTemplateBytes = 2 ** 20;
const renderLimitMs = 1000;
const renderLimitMsPerCharacter = 0.01;
/** Templates count messages and tools; a hostile one could ask for a list that fills the memory. */
const maxRange = 100_000;

/**
 * The chat template of a checkpoint folder, as transformers finds it: chat_template.jinja; `chat_template` of
 * tokenizer_config.json, one or several by name ("tool_use" where there are tools, else "default"); chat_template.json of
 * processors. Null where none of them has one.
 *
 * `strftime_now` is the first of January 2025, so that the same text gives the same tokens tomorrow.
 *
 * @throws `data/chat-template` for one that cannot be parsed, `data/tokenizer` for a file that cannot be read
 */
export async function loadChatTemplate(directory: string): Promise<ChatTemplate | null> {
  const config = await readJson(join(directory, "tokenizer_config.json"));
  const found = await findTemplates(directory, config?.chat_template);
  if (found === null) return null;
  const { sources, file } = found;
  const templates = new Map([...sources].map(([name, source]) => [name, parseTemplate(source, file)]));
  const tokens = specialTokens(config, await readJson(join(directory, "special_tokens_map.json")));
  return {
    render: ({ messages, tools, asksForAnswer = false }, where) => {
      const template =
        (tools === null ? undefined : templates.get("tool_use")) ??
        templates.get("default") ??
        [...templates.values()][0]!;
      const given = { messages, tools, documents: null, add_generation_prompt: asksForAnswer };
      const variables = { ...tokens, ...functions, ...given };
      const characters = messages.reduce(
        (sum, { content }) => sum + (typeof content === "string" ? content.length : 0),
        0,
      );
      try {
        return withTimeLimit(renderLimitMs + renderLimitMsPerCharacter * characters, () => run(template, variables));
      } catch (cause) {
        throw new RerouteError(
          "data/chat-template",
          `${where} is a conversation that the chat template of ${file} does not take: ${reasonOf(cause)}. Correct or leave out the ` +
            `conversation, or name a column with plain text (--column KEY)`,
          { cause },
        );
      }
    },
  };
}

/** The text of the folder's default template; null without one. */
export async function chatTemplateSource(directory: string): Promise<string | null> {
  const config = await readJson(join(directory, "tokenizer_config.json"));
  const sources = (await findTemplates(directory, config?.chat_template))?.sources;
  return sources?.get("default") ?? sources?.values().next().value ?? null;
}

async function findTemplates(
  directory: string,
  configured: unknown,
): Promise<{ sources: Map<string, string>; file: string } | null> {
  const jinja = join(directory, "chat_template.jinja");
  const source = await readTemplate(jinja);
  if (source !== null) return { sources: new Map([["default", source]]), file: jinja };
  const inConfig = namedTemplates(configured);
  if (inConfig.size > 0) return { sources: inConfig, file: join(directory, "tokenizer_config.json") };
  const file = join(directory, "chat_template.json");
  const ofProcessor = namedTemplates((await readJson(file))?.chat_template);
  return ofProcessor.size > 0 ? { sources: ofProcessor, file } : null;
}

function namedTemplates(value: unknown): Map<string, string> {
  if (typeof value === "string") return new Map([["default", value]]);
  const items: unknown[] = Array.isArray(value) ? value : [];
  return new Map(
    items.flatMap((item): [string, string][] => {
      const { name, template } = (item ?? {}) as { name?: unknown; template?: unknown };
      return typeof name === "string" && typeof template === "string" ? [[name, template]] : [];
    }),
  );
}

async function readTemplate(file: string): Promise<string | null> {
  try {
    const { size } = await stat(file);
    if (size <= maxTemplateBytes) return await readFile(file, "utf8");
    throw broken(file, `has ${size} bytes, the limit is ${maxTemplateBytes}`);
  } catch (cause) {
    if (cause instanceof RerouteError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw broken(file, `cannot be read: ${message}`, cause);
  }
}

type Template = ReturnType<typeof parse>;

function parseTemplate(source: string, file: string): Template {
  try {
    // As transformers sets Jinja up.
    return withTimeLimit(renderLimitMs, () => parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true })));
  } catch (cause) {
    throw broken(file, `holds a chat template that cannot be parsed: ${reasonOf(cause)}`, cause);
  }
}

function run(template: Template, variables: Record<string, unknown>): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries(variables)) environment.set(name, value);
  const { value } = new Interpreter(environment).run(template);
  if (typeof value === "string") return value;
  throw new Error("it gives no text");
}

/** bos_token and the others, as templates name them. */
function specialTokens(...files: (Record<string, unknown> | null)[]): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const file of files) {
    for (const [key, value] of Object.entries(file ?? {})) {
      const token = /^[a-z]+_token$/.test(key) ? contentOf(value) : null;
      if (token !== null) tokens[key] ??= token;
    }
  }
  return tokens;
}

/** Parts of Wednesday, 1 January 2025, by strftime's letters. */
const date: Record<string, string | undefined> = {
  ...{
    Y: "2025",
    y: "25",
    m: "01",
    d: "01",
    e: " 1",
    j: "001",
    B: "January",
    b: "Jan",
    h: "Jan",
    A: "Wednesday",
    a: "Wed",
  },
  ...{ H: "00", M: "00", S: "00", I: "12", p: "AM", "-d": "1", "-m": "1", "%": "%" },
};

/** What templates find beside their conversation, instead of the library's own, whose date is today's and whose lists have no limit. */
const functions = {
  ...{ true: true, false: false, none: null, True: true, False: false, None: null },
  raise_exception: (message: unknown): never => {
    throw new Error(String(message));
  },
  strftime_now: (format: unknown): string =>
    String(format).replace(/%(-?[A-Za-z%])/g, (whole, part: string) => date[part] ?? whole),
  range: (...bounds: number[]): number[] => {
    const [start, stop, step] = bounds.length === 1 ? [0, bounds[0]!, 1] : [bounds[0]!, bounds[1]!, bounds[2] ?? 1];
    const length = Math.max(0, Math.ceil((stop - start) / step));
    if (length <= maxRange) return Array.from({ length }, (_, i) => start + i * step);
    throw new Error(`range of ${length} numbers, the limit is ${maxRange}`);
  },
};

function reasonOf(cause: unknown): string {
  if (cause instanceof TimeLimitExceeded) return `it took more than ${Math.round(cause.limitMs)} ms`;
  return cause instanceof Error ? JSON.stringify(cause.message.slice(0, 300)) : String(cause);
}

function broken(file: string, what: string, cause?: unknown): RerouteError {
  return new RerouteError("data/chat-template", `${file} ${what}`, { cause });
}
