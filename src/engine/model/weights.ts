import { RerouteError } from "../../protocol/errors";
import type { Checkpoint, TensorEntry } from "../checkpoint/checkpoint";
import { quote } from "../checkpoint/quote";
import { isDType } from "../tensor/dtype";
import type { Quantisation } from "../weights/view";
import { readIntList, readObject, readString, unsupported, type Config } from "./config";
import { readFactored } from "./factored";
import { rootOf, storedName, type Root } from "./textTower";
import type { LinearDescription, NormDescription, WeightView } from "./description";

/** "rms plus one" multiplies by 1 + weight, "rms alone" by nothing. */
export type NormKind = "rms" | "rms plus one" | "rms alone" | "layer" | "layer without bias";

/** dtypes that become float32 by themselves; the 8-bit ones need scales. */
const plainDtypes: readonly string[] = ["F32", "F16", "BF16"];

/**
 * Finds a model's tensors by name, checks their shapes and remembers which were used. Shapes come from config.json, so
 * a mismatch says that config and weights do not belong together.
 */
export class Weights {
  readonly #tensors: ReadonlyMap<string, TensorEntry>;
  readonly #root: Root;
  readonly #used = new Set<string>();
  readonly #endings = new Map<string, boolean>();
  readonly #blockSize: readonly [number, number] | null;
  readonly #config: Config;

  /** @throws RerouteError `model/unsupported-option` for a quantisation that Reroute does not read. */
  constructor(checkpoint: Checkpoint) {
    this.#tensors = checkpoint.tensors;
    this.#root = rootOf(checkpoint.tensors);
    this.#blockSize = readBlockSize(checkpoint.config);
    this.#config = checkpoint.config;
  }

  has(name: string): boolean {
    return this.#tensors.has(this.storedName(name));
  }

  hasAny(names: readonly string[]): boolean {
    return names.some((name) => this.has(name));
  }

  /** What a tensor is called in this checkpoint, by its name in a plain text model. */
  storedName(name: string): string {
    return storedName(this.#root, name);
  }

  /** Whether the name of any tensor ends so: asked once, it saves a lookup an expert where there is none. */
  hasEnding(ending: string): boolean {
    let known = this.#endings.get(ending);
    if (known === undefined) {
      known = false;
      for (const name of this.#tensors.keys()) known ||= name.endsWith(ending);
      this.#endings.set(ending, known);
    }
    return known;
  }

  /** Stored shape of a tensor; null without one. */
  shapeOf(name: string): readonly number[] | null {
    return this.#tensors.get(this.storedName(name))?.shape ?? null;
  }

  /** The first of the names that the checkpoint has; the first of all where it has none (so that errors name it). */
  firstOf(...names: [string, ...string[]]): string {
    return names.find((name) => this.has(name)) ?? names[0];
  }

  /**
   * The whole of a tensor.
   * @param because what in config.json implies the shape, for the message.
   * @throws RerouteError `checkpoint/missing-tensor`, `checkpoint/shape-mismatch`, `checkpoint/unsupported-dtype`.
   */
  view(name: string, shape: readonly number[], because: string): WeightView {
    const entry = this.entry(name, shape, because);
    const quantisation = this.#quantisation(entry, because);
    // Name and shape are the entry's own: of the copies that 100,000 lookups made, none is kept.
    const whole = { tensor: entry.name, offset: 0, shape: entry.shape, dtype: entry.dtype };
    return quantisation === undefined ? whole : { ...whole, quantisation };
  }

  /** A tensor's entry after its name and shape were checked; its dtype is not. */
  entry(name: string, shape: readonly number[], because: string): TensorEntry {
    const stored = this.storedName(name);
    const entry = this.#tensors.get(stored);
    if (entry === undefined) {
      throw new RerouteError(
        "checkpoint/missing-tensor",
        `cannot find tensor ${quote(stored)} in any shard, config.json implies it (${because}). Is the checkpoint complete?`,
      );
    }
    if (!areEqual(entry.shape, shape)) {
      throw new RerouteError(
        "checkpoint/shape-mismatch",
        `tensor ${quote(stored)} in ${quote(entry.shard.name)} has shape [${entry.shape.join(", ")}], config.json implies ` +
          `[${shape.join(", ")}] (${because}). Is this checkpoint already pruned?`,
      );
    }
    this.#used.add(entry.name);
    return entry;
  }

  /** A tensor of bytes: codes or exponents of a quantised one. */
  bytes(name: string, shape: readonly number[], because: string): TensorEntry {
    const entry = this.entry(name, shape, because);
    if (entry.dtype !== "U8") throw unreadable(entry, "U8");
    return entry;
  }

  /** One slice along the first axis of a stored tensor: `shape` elements from `index * stride` on. */
  slice(entry: TensorEntry, offset: number, shape: readonly number[]): WeightView {
    this.#refuseUnscaled(entry);
    return { tensor: entry.name, offset, shape, dtype: entry.dtype };
  }

  linear(
    prefix: string,
    inputs: number,
    outputs: number,
    options: { bias: boolean; because: string },
  ): LinearDescription {
    return {
      weight:
        readFactored(this, this.#config, prefix, [outputs, inputs], options.because) ??
        this.view(`${prefix}.weight`, [outputs, inputs], options.because),
      bias: options.bias ? this.view(`${prefix}.bias`, [outputs], options.because) : null,
      layout: "out-in",
    };
  }

  norm(kind: NormKind, prefix: string, size: number, epsilon: number, because = "hidden_size"): NormDescription {
    return {
      kind: kind === "layer" || kind === "layer without bias" ? "layer" : "rms",
      weight: kind === "rms alone" ? null : this.view(`${prefix}.weight`, [size], because),
      ...(kind === "rms plus one" ? { plusOne: true as const } : {}),
      bias: kind === "layer" ? this.view(`${prefix}.bias`, [size], because) : null,
      epsilon,
    };
  }

  /** Tensors of the checkpoint that no view named, in file order. */
  unused(): string[] {
    return [...this.#tensors.keys()].filter((name) => !this.#used.has(name));
  }

  #quantisation(entry: TensorEntry, because: string): Quantisation | undefined {
    if (plainDtypes.includes(entry.dtype)) return undefined;
    const { shape } = entry;
    const scaleName = `${entry.name}_scale_inv`;
    const [rows, columns] = shape;
    if (
      entry.dtype !== "F8_E4M3" ||
      rows === undefined ||
      columns === undefined ||
      shape.length !== 2 ||
      !this.#tensors.has(scaleName)
    ) {
      throw unreadable(entry);
    }
    if (this.#blockSize === null) throw unsupported("quantization_config.weight_block_size", null, "[rows, columns]");
    const [blockRows, blockColumns] = this.#blockSize;
    const scales = this.entry(scaleName, [Math.ceil(rows / blockRows), Math.ceil(columns / blockColumns)], because);
    this.#refuseUnscaled(scales);
    return {
      kind: "scaled",
      scales: { tensor: scales.name, offset: 0, shape: scales.shape, dtype: scales.dtype },
      blockRows,
      blockColumns,
    };
  }

  #refuseUnscaled(entry: TensorEntry): void {
    if (!isDType(entry.dtype) || !plainDtypes.includes(entry.dtype)) throw unreadable(entry);
  }
}

function areEqual(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function unreadable(
  entry: TensorEntry,
  expected = `${plainDtypes.join(", ")}, or F8_E4M3 with block scales ${quote(`${entry.name}_scale_inv`)}`,
): RerouteError {
  return new RerouteError(
    "checkpoint/unsupported-dtype",
    `tensor ${quote(entry.name)} in ${quote(entry.shard.name)} is stored as ${entry.dtype}, expected ${expected}. Convert the checkpoint to BF16`,
  );
}

/**
 * Rows and columns that share one scale of an F8 checkpoint (DeepSeek-V3 and its kin).
 * @throws RerouteError `model/unsupported-option`.
 */
function readBlockSize(config: Config): readonly [number, number] | null {
  const quantisation = readObject(config, "quantization_config");
  if (quantisation === null) return null;
  const method = readString(quantisation, "quant_method");
  if (method !== "fp8" && method !== "mxfp4")
    throw unsupported("quantization_config.quant_method", method, "fp8, mxfp4");
  if (method === "mxfp4") return null;
  const scheme = readString(quantisation, "activation_scheme");
  // A static scheme also rounds activations with stored scales; the numbers would differ from the model's own.
  if (scheme !== null && scheme !== "dynamic")
    throw unsupported("quantization_config.activation_scheme", scheme, "dynamic");
  const size = readIntList(quantisation, "weight_block_size", { min: 1 });
  if (size === null) return null;
  const [rows, columns] = size;
  if (rows === undefined || columns === undefined || size.length !== 2) {
    throw unsupported("quantization_config.weight_block_size", size, "two integers");
  }
  return [rows, columns];
}
