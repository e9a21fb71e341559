import { createHash } from "node:crypto";
import { readdir, rm, stat } from "node:fs/promises";
import path from "node:path";
import { writeFileAtomically } from "../checkpoint/atomicFile";
import { StoredHiddenStates, type HiddenStates } from "./hiddenStates";

/** How far a profile got: the shards of sequences before `shard` through all layers, `shard` itself through `layers`. */
export interface ProfilePosition {
  shard: number;
  layers: number;
}

/** What an observer added up, kept outside: this folder's code does not know what observers do. */
export interface ProfileSums {
  /** What tells this model from others. */
  identity: string;
  /** Writes the sums so far with key and position, atomically. */
  save: (key: string, position: ProfilePosition) => Promise<void>;
  /** Where the saved sums stand, and what gives them back to the observer; null where there are none of this key. */
  load: (key: string) => Promise<{ position: ProfilePosition; restore: () => void } | null>;
}

/** A save takes at most this share of the time between two saves. */
const saveShare = 0.05;

/**
 * Lets an interrupted profile go on behind the last layer that was saved. The sums name their position, and hidden states
 * lie in a file named after it, which is complete before the sums refer to it and stays until the next sums are there.
 */
export class ProfileState {
  #savedAt = performance.now();
  #saveSeconds = 0;

  /** @param leastSeconds time between saves, at least; 0: every layer is saved */
  constructor(
    readonly sums: ProfileSums,
    readonly key: string,
    readonly directory: string,
    readonly leastSeconds: number,
  ) {}

  /** Gives the observer its sums back and says where to go on, with the hidden states there; null: at the beginning. */
  async load(
    shards: readonly { numTokens: number }[],
    { numLayers, width }: { numLayers: number; width: number },
  ): Promise<{ position: ProfilePosition; hidden: HiddenStates | null } | null> {
    const found = await this.sums.load(this.key);
    if (found === null) return null;
    const { position, restore } = found;
    const shard = shards[position.shard];
    if (shard === undefined || position.layers >= numLayers) return null;
    let hidden: HiddenStates | null = null;
    if (position.layers > 0) {
      const file = this.#hiddenFile(position);
      const { numTokens } = shard;
      // Sums whose hidden states are gone are of no use: the shard begins anew, and would be added twice.
      if ((await sizeOf(file)) !== numTokens * width * 4) return null;
      hidden = new StoredHiddenStates(file, numTokens, width);
    }
    restore();
    return { position, hidden };
  }

  /** Keeps the position, when enough work was done since it was last kept. `hidden`: behind those layers, null behind all. */
  async save(position: ProfilePosition, hidden: HiddenStates | null): Promise<void> {
    const started = performance.now();
    const wait = this.leastSeconds === 0 ? 0 : Math.max(this.leastSeconds, this.#saveSeconds / saveShare);
    if ((started - this.#savedAt) / 1e3 < wait) return;
    const file = this.#hiddenFile(position);
    if (hidden !== null) await writeFileAtomically(file, partsOf(hidden));
    await this.sums.save(this.key, position);
    for (const name of (await readdir(this.directory)).filter((name) => hiddenNames.test(name)))
      if (hidden === null || name !== path.basename(file)) await rm(path.join(this.directory, name), { force: true });
    this.#savedAt = performance.now();
    this.#saveSeconds = (this.#savedAt - started) / 1e3;
  }

  #hiddenFile({ shard, layers }: ProfilePosition): string {
    return path.join(this.directory, `profile-hidden-${this.key.slice(0, 16)}-${shard}-${layers}.f32`);
  }
}

/** Hidden states of an interrupted profile. */
export const hiddenNames = /^profile-hidden-[0-9a-f]{16}-\d+-\d+\.f32$/;

/** A name for everything that decides what the sums are at a position. */
export function profileKey(identity: string, arrays: readonly ArrayBufferView[], numbers: readonly number[]): string {
  const hash = createHash("sha256").update(JSON.stringify([identity, ...numbers]));
  for (const { buffer, byteOffset, byteLength } of arrays) hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  return hash.digest("hex");
}

function* partsOf(hidden: HiddenStates): Generator<Uint8Array> {
  const step = Math.max(1, Math.floor((16 * 2 ** 20) / (hidden.width * 4)));
  for (let from = 0; from < hidden.numTokens; from += step) {
    const rows = hidden.read(from, Math.min(hidden.numTokens, from + step));
    yield new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
  }
}

async function sizeOf(file: string): Promise<number | null> {
  try {
    return (await stat(file)).size;
  } catch {
    return null;
  }
}
