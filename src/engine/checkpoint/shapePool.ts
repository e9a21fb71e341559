/** More shapes than a decoder's tensors have; of a file with more of them, each further tensor keeps an array of its own. */
const maxShapes = 16;

/** Shapes, each once: a model of 100,000 tensors has about ten, and an array a tensor would be most of what is kept of it. */
export class ShapePool {
  readonly #shapes: (readonly number[])[] = [];

  /** The shape of the first `rank` numbers, which later changes of `sizes` do not reach. */
  get(sizes: readonly number[], rank: number): readonly number[] {
    for (const known of this.#shapes) if (isShape(known, sizes, rank)) return known;
    const made = sizes.slice(0, rank);
    if (this.#shapes.length < maxShapes) this.#shapes.push(made);
    return made;
  }
}

function isShape(known: readonly number[], sizes: readonly number[], rank: number): boolean {
  if (known.length !== rank) return false;
  for (let i = 0; i < rank; i++) if (known[i] !== sizes[i]) return false;
  return true;
}
