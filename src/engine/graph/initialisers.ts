import type { ElementType, FileRange, Initialiser, Shape, Value } from "./graph";

type ConstantData = Extract<Initialiser, { kind: "constant" }>["data"];

/** Reads numbers as data of a type. */
const dataOf = {
  float32: (numbers: readonly number[]) => Float32Array.from(numbers),
  float64: (numbers: readonly number[]) => Float64Array.from(numbers),
  int64: (numbers: readonly number[]) => BigInt64Array.from(numbers, BigInt),
  uint8: (numbers: readonly number[]) => Uint8Array.from(numbers),
};

/** The constants and file tensors of a graph, each once. */
export class Initialisers {
  readonly #byName = new Map<string, Initialiser>();
  #nextId = 0;

  get all(): Iterable<Initialiser> {
    return this.#byName.values();
  }

  /** Bytes of a file; the same one for the same name. */
  file(name: string, type: ElementType, shape: Shape, range: FileRange): Value {
    return this.#once(name, () => ({ kind: "file", value: { name, type, shape }, range }));
  }

  /** Up to eight numbers are the same constant wherever they are given. */
  small(type: keyof typeof dataOf, numbers: readonly number[], shape: Shape): Value {
    const isShort = numbers.length <= 8;
    const name = isShort ? `const:${type}[${shape.join()}]=${numbers.join(",")}` : `const:${this.#nextId++}`;
    return this.#constant(name, type, shape, () => dataOf[type](numbers));
  }

  /** A tensor of one number; the same one for the same shape. */
  filled(type: "uint4" | "uint8", number: number, shape: readonly number[]): Value {
    const count = shape.reduce((product, size) => product * size, 1);
    return this.#constant(`filled:${type}[${shape.join()}]=${number}`, type, shape, () =>
      type === "uint8" ? new Uint8Array(count).fill(number) : new Uint8Array(Math.ceil(count / 2)).fill(number * 17),
    );
  }

  #constant(name: string, type: ElementType, shape: Shape, data: () => ConstantData): Value {
    return this.#once(name, () => ({ kind: "constant", value: { name, type, shape }, data: data() }));
  }

  #once(name: string, make: () => Initialiser): Value {
    const found = this.#byName.get(name) ?? make();
    this.#byName.set(name, found);
    return found.value;
  }
}
