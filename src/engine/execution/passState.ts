import { readdir, rm, stat } from "node:fs/promises";
import path from "node:path";
import { writeFileAtomically } from "../checkpoint/atomicFile";
import { StoredHiddenStates, type HiddenStates } from "./hiddenStates";

/** How far a pass got: the shards of sequences before `shard` through all layers, `shard` itself through `layers`. */
export interface PassPosition {
  shard: number;
  layers: number;
}

/** What an observer added up, kept outside: this folder's code does not know what observers do. */
export interface PassSums {
  /** What tells this model from others. */
  identity: string;
  /** Writes the sums so far with key and position, atomically. */
  save: (key: string, position: PassPosition) => Promise<void>;
  /** Where the saved sums stand, and what gives them back to the observer; null where there are none of this key. */
  load: (key: string) => Promise<{ position: PassPosition; restore: () => void } | null>;
}

/** A save takes at most this share of the time between two saves. */
const saveShare = 0.05;

/** Passes that can go on; each keeps its hidden states under its own name. */
export type PassName = "profile" | "evaluation-teacher" | "evaluation-student";

/**
 * Lets an interrupted pass go on behind the last layer that was saved. The sums name their position, and hidden states
 * lie in a file named after it, which is complete before the sums refer to it and stays until the next sums are there.
 */
export class PassState {
  #savedAt = performance.now();
  #saveSeconds = 0;

  /** @param leastSeconds time between saves, at least; 0: every layer is saved */
  constructor(
    readonly name: PassName,
    readonly sums: Pick<PassSums, "save" | "load">,
    readonly key: string,
    readonly directory: string,
    readonly leastSeconds: number,
  ) {}

  /**
   * Gives the observer its sums back and says where to go on, with the hidden states there; null: at the beginning.
   * @param mostLayers of a shard that something is saved behind
   */
  async load(
    shards: readonly { numTokens: number }[],
    { mostLayers, width }: { mostLayers: number; width: number },
  ): Promise<{ position: PassPosition; hidden: HiddenStates | null } | null> {
    const found = await this.sums.load(this.key);
    if (found === null) return null;
    const { position, restore } = found;
    const shard = shards[position.shard];
    if (shard === undefined || position.layers > mostLayers) return null;
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
  async save(position: PassPosition, hidden: HiddenStates | null): Promise<void> {
    const started = performance.now();
    const wait = this.leastSeconds === 0 ? 0 : Math.max(this.leastSeconds, this.#saveSeconds / saveShare);
    if ((started - this.#savedAt) / 1e3 < wait) return;
    const file = this.#hiddenFile(position);
    if (hidden !== null) await writeFileAtomically(file, bytesOfStates(hidden));
    await this.sums.save(this.key, position);
    const names = hiddenNames(this.name);
    for (const name of (await readdir(this.directory)).filter((name) => names.test(name)))
      if (hidden === null || name !== path.basename(file)) await rm(path.join(this.directory, name), { force: true });
    this.#savedAt = performance.now();
    this.#saveSeconds = (this.#savedAt - started) / 1e3;
  }

  #hiddenFile({ shard, layers }: PassPosition): string {
    return path.join(this.directory, `${this.name}-hidden-${this.key.slice(0, 16)}-${shard}-${layers}.f32`);
  }
}

/** Hidden states of an interrupted pass. */
export function hiddenNames(name: PassName): RegExp {
  return new RegExp(`^${name}-hidden-[0-9a-f]{16}-\\d+-\\d+\\.f32$`);
}

/** Rows in parts of about 16 MB, as bytes. */
export function* bytesOfStates(hidden: HiddenStates): Generator<Uint8Array> {
  const step = Math.max(1, Math.floor((16 * 2 ** 20) / (hidden.width * 4)));
  for (let from = 0; from < hidden.numTokens; from += step) {
    const rows = hidden.read(from, Math.min(hidden.numTokens, from + step));
    yield new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
  }
}

/** Bytes of a file; null where there is none. */
export async function sizeOf(file: string): Promise<number | null> {
  try {
    return (await stat(file)).size;
  } catch {
    return null;
  }
}
