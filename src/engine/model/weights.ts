import { RerouteError } from "../../protocol/errors";
import type { Checkpoint, TensorEntry } from "../checkpoint/checkpoint";
import { quote } from "../checkpoint/quote";
import { isDType } from "../tensor/dtype";
import type { Quantisation } from "../weights/view";
import { unsupported, type Config } from "./config";
import { readFactored } from "./factored";
import { isPacked, readPacked, readScales, storedEndings } from "./quantisation/readLinear";
import type { Schemes } from "./quantisation/scheme";
import { readSchemes } from "./quantisation/schemes";
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
  readonly #schemes: Schemes;
  readonly #config: Config;

  /** @throws RerouteError `model/unsupported-option` for a quantisation that Reroute does not read. */
  constructor(checkpoint: Checkpoint) {
    this.#tensors = checkpoint.tensors;
    this.#root = rootOf(checkpoint.tensors);
    this.#schemes = readSchemes(checkpoint.config);
    this.#config = checkpoint.config;
  }

  has(name: string): boolean {
    return this.#tensors.has(this.storedName(name));
  }

  hasAny(names: readonly string[]): boolean {
    return names.some((name) => this.has(name));
  }

  /** Whether a module's matrix is there, packed or not. */
  hasLinear(prefix: string): boolean {
    return this.has(`${prefix}.weight`) || isPacked(this, prefix);
  }

  /** Endings of what a module stores beside its bias. */
  endingsOf(prefix: string): string[] {
    const found = storedEndings.filter((ending) => this.has(`${prefix}.${ending}`));
    return found.length === 0 ? ["weight"] : found;
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
    const quantisation = this.#quantisation(entry, name, because);
    // Name and shape are the entry's own: of the copies that 100,000 lookups made, none is kept.
    const whole = { tensor: entry.name, offset: 0, shape: entry.shape, dtype: entry.dtype };
    return quantisation === undefined ? whole : { ...whole, quantisation };
  }

  /** A tensor's entry after its name and shape were checked; its dtype is not. */
  entry(name: string, shape: readonly number[], because: string): TensorEntry {
    const stored = this.storedName(name);
    const entry = this.#tensors.get(stored);
    if (entry === undefined) {
      this.#refusePacked(name, stored);
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
    const bias = options.bias ? this.view(`${prefix}.bias`, [outputs], options.because) : null;
    if (isPacked(this, prefix)) {
      const scheme = this.#schemes(this.storedName(prefix));
      return { ...readPacked(this, scheme, { prefix, outputs, inputs, because: options.because }), bias };
    }
    const weight =
      readFactored(this, this.#config, prefix, [outputs, inputs], options.because) ??
      this.view(`${prefix}.weight`, [outputs, inputs], options.because);
    return { weight, bias, layout: "out-in" };
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

  #quantisation(entry: TensorEntry, name: string, because: string): Quantisation | undefined {
    if (plainDtypes.includes(entry.dtype)) return undefined;
    const { shape } = entry;
    const [rows, columns] = shape;
    const scheme = this.#schemes(entry.name.replace(/\.weight$/, ""));
    const ending = scheme?.kind === "scaled" ? scheme.scale : "scale_inv";
    const isCode = entry.dtype === "F8_E4M3" || (entry.dtype === "I8" && ending === "scale");
    if (
      !isCode ||
      rows === undefined ||
      columns === undefined ||
      shape.length !== 2 ||
      !this.#tensors.has(`${entry.name}_${ending}`)
    ) {
      throw unreadable(entry);
    }
    if (scheme?.kind !== "scaled") throw unsupported("quantization_config.weight_block_size", null, "[rows, columns]");
    return readScales(this, scheme, name, [rows, columns], because);
  }

  /** A matrix that is looked for as plain numbers where it is stored packed. */
  #refusePacked(name: string, stored: string): void {
    if (!name.endsWith(".weight") || !isPacked(this, name.slice(0, -".weight".length))) return;
    throw new RerouteError(
      "model/unsupported-option",
      `${quote(stored)} is stored packed, which Reroute reads of projections inside layers alone, not here (routers, embedding, ` +
        `head, joined projections). Keep it in BF16 when quantising, or convert the checkpoint to BF16`,
    );
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
