import { RerouteError } from "../../protocol/errors";
import type { GenerationPrompt } from "../../protocol/generation";
import type { ChatTemplate } from "../data/chatTemplate";
import type { Tokenizer } from "../data/tokenizer";
import { checkTokenIds } from "./decoder";
import type { TokenPrompt } from "./generate";

export interface PromptReaders {
  tokenizer: Tokenizer;
  /** Special tokens before a text that is no conversation. */
  leading: readonly number[];
  chat: () => Promise<ChatTemplate | null>;
}

/**
 * Token ids of prompts. Conversations become text by the checkpoint's chat template, up to where the answer begins.
 *
 * @param contextLength tokens that prompt and response may have together
 * @throws RerouteError data/chat-template, data/prompt-too-long, data/token-out-of-range, data/tokenizer, arguments/invalid
 */
export async function promptTokens(
  prompts: readonly (GenerationPrompt & { where?: string })[],
  { tokenizer, leading, chat }: PromptReaders,
  vocabSize: number,
  contextLength: number,
): Promise<TokenPrompt[]> {
  const tokens: TokenPrompt[] = [];
  for (const [number, prompt] of prompts.entries()) {
    const where = prompt.where ?? `prompt ${number + 1}`;
    const ids =
      "text" in prompt
        ? Int32Array.from([...leading, ...tokenizer.encode(prompt.text)])
        : tokenizer.encode(await rendered(prompt, chat, where));
    checkTokenIds(ids, vocabSize, where);
    if (ids.length === 0) throw new RerouteError("arguments/invalid", `${where} is empty; give at least one token`);
    if (ids.length >= contextLength) {
      throw new RerouteError(
        "data/prompt-too-long",
        `${where} has ${ids.length} tokens, but the model's context has ${contextLength} (max_position_embeddings in config.json), ` +
          `and an answer needs at least one of them; shorten the prompt to ${contextLength - 1} tokens or fewer`,
      );
    }
    tokens.push({ number, ids });
  }
  return tokens;
}

async function rendered(
  { messages, tools }: Extract<GenerationPrompt, { messages: unknown }>,
  chat: PromptReaders["chat"],
  where: string,
): Promise<string> {
  const template = await chat();
  if (template !== null) return template.render({ messages, tools: tools ?? null, asksForAnswer: true }, where);
  throw new RerouteError(
    "data/chat-template",
    `${where} is a conversation, and the checkpoint has no chat template (chat_template.jinja, or chat_template in ` +
      `tokenizer_config.json); give a plain prompt, or name the folder that has it (--tokenizer DIR)`,
  );
}
