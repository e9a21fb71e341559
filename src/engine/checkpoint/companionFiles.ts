import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { readError } from "./fileErrors";

/** Files beside the weights that a checkpoint of the same tokenizer and code needs. Model cards describe another model. */
const companionNames = new Set([
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "tiktoken.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "vocab.txt",
  "merges.txt",
  "generation_config.json",
  "chat_template.jinja",
  "chat_template.json",
  "LICENSE",
  "LICENSE.txt",
  "LICENSE.md",
  "NOTICE",
]);

/** Code that config.json's `auto_map` refers to. It is copied, never run. */
const companionCode = /^(configuration|modeling|tokenization)_\w+\.py$/;

export function isCompanionName(name: string): boolean {
  return companionNames.has(name) || companionCode.test(name);
}

/** Names of the files in a checkpoint folder that go along with its weights, sorted. */
export async function companionFiles(directory: string): Promise<string[]> {
  try {
    const names = (await readdir(directory)).filter(isCompanionName).sort();
    const files = await Promise.all(names.map(async (name) => (await stat(path.join(directory, name))).isFile()));
    return names.filter((_, i) => files[i]);
  } catch (error) {
    throw readError(error, directory);
  }
}
