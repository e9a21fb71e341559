/**
 * Joins values that come one after another, the leaves, in a fixed binary tree: pairs of neighbours, then pairs of pairs.
 * What comes out depends on the leaves and their order alone, not on who joined which: a node over leaves [i, i + 2^k),
 * with i a multiple of 2^k, may be made elsewhere and given as a whole, and so may the node over all leaves that are left.
 * At most one node for each power of two is alive.
 */
export class TreeFold<T> {
  readonly #nodes: { leaves: number; value: T }[] = [];

  /** @param join the left and the right value; may change and return the left one */
  constructor(readonly join: (left: T, right: T) => T) {}

  /** Leaves so far. */
  get count(): number {
    return this.#nodes.reduce((sum, { leaves }) => sum + leaves, 0);
  }

  /**
   * @param leaves under this value, made by a TreeFold of their own
   * @throws Error where that node is not part of the tree
   */
  add(value: T, leaves = 1): void {
    const last = this.#nodes.at(-1)?.leaves ?? Infinity;
    if (last < leaves || !isPowerOfTwo(last)) throw new Error(`no node of ${leaves} leaves follows ${this.count}`);
    let node = { leaves, value };
    while (this.#nodes.at(-1)?.leaves === node.leaves) {
      const left = this.#nodes.pop()!;
      node = { leaves: left.leaves + node.leaves, value: this.join(left.value, node.value) };
    }
    this.#nodes.push(node);
  }

  /** The root over all leaves so far, which are then forgotten; null without one. */
  take(): T | null {
    let root: T | null = this.#nodes.pop()?.value ?? null;
    while (root !== null && this.#nodes.length > 0) root = this.join(this.#nodes.pop()!.value, root);
    return root;
  }
}

/** Adds the right array to the left one, element by element. */
export function addArrays<A extends Float32Array | Float64Array>(left: A, right: A): A {
  for (let i = 0; i < left.length; i++) left[i]! += right[i]!;
  return left;
}

/** The larger of two arrays' elements, into the left one. */
export function largerOfArrays<A extends Float32Array | Float64Array>(left: A, right: A): A {
  for (let i = 0; i < left.length; i++) if (right[i]! > left[i]!) left[i] = right[i]!;
  return left;
}

/** Adds the right numbers by key to the left ones. Both have the same keys. */
export function addNamed(
  left: Map<string, Float32Array>,
  right: ReadonlyMap<string, Float32Array>,
): Map<string, Float32Array> {
  for (const [key, values] of left) addArrays(values, right.get(key)!);
  return left;
}

function isPowerOfTwo(count: number): boolean {
  return count === Infinity || (count & (count - 1)) === 0;
}
