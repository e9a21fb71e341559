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

/** Checkpoints, tokenizers and texts of one run, each read once. */
export class ModelCache {
  readonly #models = new Map<string, Promise<OpenModel>>();
  readonly #tokenizers = new Map<string, Promise<Tokenizer>>();
  readonly #chatTemplates = new Map<string, Promise<ChatTemplate | null>>();
  readonly #sequences = new Map<string, Promise<TokenSequences>>();

  model(directory: string): Promise<OpenModel> {
    return remember(this.#models, directory, openModel);
  }

  tokenizer(directory: string): Promise<Tokenizer> {
    return remember(this.#tokenizers, directory, loadTokenizer);
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
    this.#tokenizers.delete(directory);
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
