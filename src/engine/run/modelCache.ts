import { stat } from "node:fs/promises";
import { readError } from "../checkpoint/smallFile";
import { fingerprintCheckpoint } from "../checkpoint/fingerprint";
import { openCheckpoint } from "../checkpoint/open";
import { checkUnchanged } from "../checkpoint/shardFile";
import { describeModel } from "../model/families";
import { loadChatTemplate, type ChatTemplate } from "../data/chatTemplate";
import { refuseUnread } from "../model/unread";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer";
import type { TokenSequences } from "../data/sequences";
import type { OpenModel } from "./work";

/** Tokenizers by folder. */
export type Tokenizers = Map<string, Promise<Tokenizer>>;

/** Checkpoints, tokenizers and texts of one run, each read once. */
export class ModelCache {
  readonly #models = new Map<string, Promise<OpenModel>>();
  readonly #chatTemplates = new Map<string, Promise<ChatTemplate | null>>();
  readonly #sequences = new Map<string, Promise<TokenSequences>>();

  /** @param tokenizers those of a pre-flight, which has begun to read the same texts */
  constructor(readonly tokenizers: Tokenizers = new Map()) {}

  model(directory: string): Promise<OpenModel> {
    return remember(this.#models, directory, openModel);
  }

  tokenizer(directory: string): Promise<Tokenizer> {
    return remember(this.tokenizers, directory, async () => remembering(await loadTokenizer(directory)));
  }

  /** What turns a corpus into token ids, opened when it is asked for. */
  textReaders(directory: string) {
    return {
      tokenizer: (): Promise<Tokenizer> => this.tokenizer(directory),
      chat: (): Promise<ChatTemplate | null> => remember(this.#chatTemplates, directory, loadChatTemplate),
    };
  }

  /** @param key names what `build` reads */
  sequences(key: string, build: () => Promise<TokenSequences>): Promise<TokenSequences> {
    return remember(this.#sequences, key, build);
  }

  /**
   * Graph runs read weights through mappings, which do not notice that a file was replaced under them: a stage is only
   * done when the files of every checkpoint it could have used are still those that were opened.
   * @throws RerouteError checkpoint/changed, /not-found
   */
  async checkUnchanged(): Promise<void> {
    for (const opened of this.#models.values()) {
      const { checkpoint } = await opened;
      for (const shard of checkpoint.shards) {
        checkUnchanged(shard, await stat(shard.realPath).catch((error: unknown) => failRead(error, shard.realPath)));
      }
    }
  }

  /** Forgets a checkpoint that was just written or removed. */
  forget(directory: string): void {
    this.#models.delete(directory);
    this.tokenizers.delete(directory);
    this.#chatTemplates.delete(directory);
  }
}

/**
 * Opens and describes a checkpoint, headers only.
 * @throws RerouteError those of openCheckpoint and describeModel; model/unread-tensors
 */
export async function openModel(directory: string): Promise<OpenModel> {
  const checkpoint = await openCheckpoint(directory);
  const { family, description } = describeModel(checkpoint);
  refuseUnread(checkpoint, description);
  return { checkpoint, family, description, fingerprint: await fingerprintCheckpoint(checkpoint) };
}

/** Tokens of texts that are kept: a pre-flight counts up to half of them of each text. */
const mostKeptTokens = 2 ** 18;

/** The same tokenizer, which keeps the ids of its first texts: those that a pre-flight counts are those that its run reads. */
export function remembering(tokenizer: Tokenizer): Tokenizer {
  const known = new Map<string, Int32Array>();
  let kept = 0;
  return {
    ...tokenizer,
    encode: (text) => {
      const found = known.get(text);
      if (found) return found;
      const ids = tokenizer.encode(text);
      if (kept + ids.length > mostKeptTokens) return ids;
      kept += ids.length;
      known.set(text, ids);
      return ids;
    },
  };
}

function remember<T>(known: Map<string, Promise<T>>, key: string, make: (key: string) => Promise<T>): Promise<T> {
  const found = known.get(key);
  if (found) return found;
  const made = make(key);
  known.set(key, made);
  // A failure is not remembered: the file may be there at the next attempt.
  made.catch(() => known.delete(key));
  return made;
}

function failRead(error: unknown, file: string): never {
  throw readError(error, file);
}
