import { TreeFold } from "../tensor/treeFold";

/**
 * How sums over tokens are cut, whatever machine adds them: tokens are added one after another inside a leaf, leaves in a
 * binary tree inside a block (tensor/treeFold.ts), blocks one after another. Chunks of a pass lie inside one leaf, and a
 * pass keeps its sums at the ends of blocks, so that memory, threads and the number of workers change no bit.
 */
export interface Leaves {
  /** Whole sequences that one leaf has. */
  sequences: number;
  /** Leaves of a block, a power of two. */
  perBlock: number;
  sequenceLength: number;
}

/** Tokens of a leaf: beyond them more rows a run no longer make the products faster (measured flat from 4096 on). */
export const leafTokens = 8192;

/**
 * Tokens of a block: those that go through all layers before the next do. Many enough that reading and compiling a layer is
 * nothing beside its arithmetic, few enough that hidden states stay small on disk and an interruption loses minutes.
 */
export const blockTokens = 2 ** 17;

export function leavesOf(
  sequenceLength: number,
  tokens: { leaf: number; block: number } = { leaf: leafTokens, block: blockTokens },
): Leaves {
  const sequences = Math.max(1, Math.floor(tokens.leaf / sequenceLength));
  const fitting = Math.max(1, Math.floor(tokens.block / (sequences * sequenceLength)));
  return { sequences, perBlock: 2 ** Math.floor(Math.log2(fitting)), sequenceLength };
}

/** Sequences of a block. */
export function blockSequences({ sequences, perBlock }: Leaves): number {
  return sequences * perBlock;
}

/** Token ranges of at most `chunkSequences` sequences, none of which reaches over the end of a leaf. */
export function chunksOf(numTokens: number, chunkSequences: number, leaves: Leaves): [number, number][] {
  const [step, leaf] = [chunkSequences * leaves.sequenceLength, leaves.sequences * leaves.sequenceLength];
  const chunks: [number, number][] = [];
  for (let from = 0; from < numTokens;) {
    const to = Math.min(from + step, (Math.floor(from / leaf) + 1) * leaf, numTokens);
    chunks.push([from, to]);
    from = to;
  }
  return chunks;
}

/** Sums over tokens as Leaves says. Tokens come in order; the sums of the leaf at hand are the caller's to add to. */
export class LeafSums<T> {
  #total: T | null;
  #open: { leaf: number; sums: T } | null = null;
  readonly #block: TreeFold<T>;

  /** @param total of blocks before, whose tokens do not come again; without their number, since nothing depends on it */
  constructor(
    readonly leaves: Leaves,
    readonly empty: () => T,
    join: (left: T, right: T) => T,
    total: T | null = null,
  ) {
    this.#block = new TreeFold(join);
    this.#total = total;
  }

  /** The sums of the leaf that a token of the text belongs to. */
  at(token: number): T {
    const leaf = Math.floor(token / (this.leaves.sequences * this.leaves.sequenceLength));
    if (this.#open?.leaf !== leaf) {
      this.#closeLeaf();
      if (leaf % this.leaves.perBlock === 0) this.#closeBlock();
      this.#open = { leaf, sums: this.empty() };
    }
    return this.#open.sums;
  }

  /** Adds the sums of the next leaves, a node of the block's tree that was made elsewhere. */
  add(node: T, leaves: number): void {
    this.#closeLeaf();
    this.#block.add(node, leaves);
    if (this.#block.count === this.leaves.perBlock) this.#closeBlock();
  }

  /** All so far, at the end of a block or of the text; null before the first token. */
  total(): T | null {
    this.#closeLeaf();
    this.#closeBlock();
    return this.#total;
  }

  #closeLeaf(): void {
    if (this.#open !== null) this.#block.add(this.#open.sums);
    this.#open = null;
  }

  #closeBlock(): void {
    const block = this.#block.take();
    if (block !== null) this.#total = this.#total === null ? block : this.#block.join(this.#total, block);
  }
}
