import { RerouteError } from "../../protocol/errors";
import { byteLengthOf, isDType, type DType } from "../tensor/dtype";
import type { HeaderTensor, SafetensorsHeader } from "./headerFormat";
import { JsonReader } from "./jsonReader";
import { maxDims, maxMetadataEntries, maxTensors } from "./limits";
import { quote } from "./quote";

/**
 * The JSON header of a safetensors file: tensors in the order of the header, offsets relative to the data's start. Every
 * tensor's bytes are those that its dtype and shape need; whether tensors leave holes or overlap is the caller's to check.
 *
 * @throws RerouteError checkpoint/malformed, /limit, /unsupported-dtype
 */
export function readHeaderJson(json: Uint8Array, fileName: string): SafetensorsHeader {
  return new HeaderReader(json, fileName).read();
}

export function malformedHeader(fileName: string, problem: string): never {
  throw new RerouteError(
    "checkpoint/malformed",
    `cannot read the header of ${quote(fileName)}: ${problem}; download or write the file again`,
  );
}

/**
 * A checkpoint may have 100,000 tensors, and collecting what a tensor's reading leaves behind took more time than reading:
 * fields and numbers go through this object, so that a tensor makes its name, its entry and nothing else.
 */
class HeaderReader {
  readonly #reader: JsonReader;
  readonly #shapes = new ShapePool();
  readonly #names = new Set<string>();
  readonly #tensors: HeaderTensor[] = [];
  #metadata: Record<string, string> | undefined;

  /** The tensor that is being read. */
  #name = "";
  #dtype: string | undefined;
  #shape: readonly number[] | undefined;
  #hasOffsets = false;
  #numOffsets = 0;
  #begin = 0;
  #end = 0;

  /** The array that is being read; of another one's numbers, some may be left behind its own. */
  readonly #counts: number[] = [];
  #what = "";

  constructor(
    readonly json: Uint8Array,
    readonly fileName: string,
  ) {
    this.#reader = new JsonReader(json, (problem) => malformedHeader(fileName, problem));
  }

  read(): SafetensorsHeader {
    if (this.json[0] !== 0x7b) malformedHeader(this.fileName, "it does not begin with {");
    this.#reader.readObject(this.#onMember);
    this.#reader.readEnd();
    return { metadata: this.#metadata ?? noMetadata(), tensors: this.#tensors };
  }

  readonly #onMember = (key: string): void => {
    if (key === "__metadata__") {
      if (this.#metadata) malformedHeader(this.fileName, "__metadata__ occurs twice");
      this.#metadata = this.#readMetadata();
      return;
    }
    if (this.#names.size === this.#names.add(key).size)
      malformedHeader(this.fileName, `tensor ${quote(key)} occurs twice`);
    if (this.#names.size > maxTensors) {
      throw new RerouteError(
        "checkpoint/limit",
        `header of ${quote(this.fileName)} lists more than ${maxTensors} tensors, which is the limit`,
      );
    }
    this.#tensors.push(this.#readTensor(key));
  };

  #readTensor(name: string): HeaderTensor {
    this.#name = name;
    this.#dtype = this.#shape = undefined;
    this.#hasOffsets = false;
    if (this.#reader.peek() !== 0x7b) this.#fail("is not an object");
    this.#reader.readObject(this.#onField);
    const { fileName } = this;
    const [dtype, shape] = [this.#dtype, this.#shape] as [string | undefined, readonly number[] | undefined];
    if (dtype === undefined) return this.#fail("has no dtype");
    if (shape === undefined) return this.#fail("has no shape");
    const [begin, end] = [this.#begin, this.#end];
    if (!this.#hasOffsets || this.#numOffsets < 2) return this.#fail("needs two data_offsets");
    if (end < begin) this.#fail(`has data_offsets [${begin}, ${end}], which end before they begin`);
    if (!isDType(dtype)) {
      throw new RerouteError(
        "checkpoint/unsupported-dtype",
        `tensor ${quote(name)} in ${quote(fileName)} is stored as ${quote(dtype)}, which is not a dtype that Reroute reads`,
      );
    }
    checkSize(name, dtype, shape, end - begin, fileName);
    return { name, dtype, shape, byteOffset: begin, byteLength: end - begin };
  }

  readonly #onField = (key: string): void => {
    switch (key) {
      case "dtype":
        if (this.#dtype !== undefined) this.#fail("has two dtypes");
        if (this.#reader.peek() !== 0x22) this.#fail("has a dtype that is not a string");
        this.#dtype = this.#reader.readString();
        break;
      case "shape":
        if (this.#shape) this.#fail("has two shapes");
        this.#what = "a dimension";
        this.#shape = this.#shapes.get(
          this.#counts,
          this.#reader.readCounts(this.#counts, maxDims, this.#whatOfTensor),
        );
        break;
      case "data_offsets":
        if (this.#hasOffsets) this.#fail("has data_offsets twice");
        this.#what = "an offset";
        this.#numOffsets = this.#reader.readCounts(this.#counts, 2, this.#whatOfTensor);
        this.#hasOffsets = true;
        this.#begin = this.#counts[0]!;
        this.#end = this.#counts[1]!;
        break;
      default:
        // The reference implementation ignores other keys, so that the format can grow.
        this.#reader.skipValue();
    }
  };

  readonly #whatOfTensor = (): string => `${this.#what} of tensor ${quote(this.#name)}`;

  #readMetadata(): Record<string, string> {
    const { fileName } = this;
    const reader = this.#reader;
    const metadata = noMetadata();
    let entries = 0;
    if (reader.peek() !== 0x7b) malformedHeader(fileName, "__metadata__ is not an object");
    reader.readObject((key) => {
      if (reader.peek() !== 0x22) malformedHeader(fileName, `__metadata__ ${quote(key)} is not a string`);
      if (Object.hasOwn(metadata, key)) malformedHeader(fileName, `__metadata__ ${quote(key)} occurs twice`);
      if (++entries > maxMetadataEntries) {
        throw new RerouteError(
          "checkpoint/limit",
          `__metadata__ of ${quote(fileName)} has more than ${maxMetadataEntries} entries, which is the limit`,
        );
      }
      metadata[key] = reader.readString();
    });
    return metadata;
  }

  #fail(problem: string): never {
    return malformedHeader(this.fileName, `tensor ${quote(this.#name)} ${problem}`);
  }
}

/** Without a prototype: keys are untrusted, and "__proto__" is one of them at times. */
function noMetadata(): Record<string, string> {
  return Object.create(null) as Record<string, string>;
}

function checkSize(name: string, dtype: DType, shape: readonly number[], byteLength: number, fileName: string): void {
  const expected = byteLengthOf(dtype, shape);
  // Beyond 2^53 products are no longer exact, and no file is that large; a zero further on must not hide it.
  let product = 1;
  const tooLarge = shape.some((size) => (product *= size) > Number.MAX_SAFE_INTEGER);
  if (expected === byteLength && !tooLarge) return;
  const needs = tooLarge ? "is larger than any file" : `needs ${expected}`;
  malformedHeader(fileName, `tensor ${quote(name)} takes ${byteLength} bytes, ${dtype} [${shape.join(", ")}] ${needs}`);
}

/** More shapes than a decoder's tensors have; of a file with more of them, each further tensor keeps an array of its own. */
const maxShapes = 16;

/** Shapes, each once: a model of 100,000 tensors has about ten, and an array a tensor would be most of what is kept of it. */
class ShapePool {
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
