import type { Checkpoint, TensorEntry } from "../checkpoint/checkpoint";
import { elementCount } from "../tensor/dtype";

/**
 * Parameters that stored tensors stand for, from headers and config.json alone: packed formats keep several values in a
 * word, and scales, zero points, code tables and permutations beside them, which are no parameters.
 */
export class StoredParameters {
  readonly #tensors: ReadonlyMap<string, TensorEntry>;
  readonly #config: Json;

  constructor({ tensors, config }: Pick<Checkpoint, "tensors" | "config">) {
    this.#tensors = tensors;
    this.#config = quantisationConfig(config);
  }

  of(entry: TensorEntry): number {
    const { name, dtype, shape } = entry;
    const isPlain = plainDtypes.has(dtype);
    // Nearly every tensor, and none of what follows.
    if (isPlain && name.endsWith(".weight")) return elementCount(shape);
    if (dtype === "F8_E8M0" || this.#isBesideValues(entry)) return 0;
    const elements = elementCount(shape);
    return isPlain ? elements : (this.#packedValues(entry, elements) ?? elements);
  }

  /** Values in a tensor of words or codes; null where each element is a value. */
  #packedValues(entry: TensorEntry, elements: number): number | null {
    const { name, dtype, shape } = entry;
    const stem = name.replace(/\.?(?:q?weight|W_q)(?:_packed)?$/, "");
    if (/\.qweight(?:_packed)?$/.test(name)) return this.#gptqOrAwq(stem, shape, elements);
    if (name.endsWith("weight_packed") && dtype !== "U8" && dtype !== "I8")
      return this.#packedWords(stem, shape, elements);
    if (name.endsWith("weight_packed")) return elements * (8 / (this.#bits() ?? 4));
    if (name.endsWith(".W_q")) return (elements * 8) / (this.#bits() ?? 4);
    if (dtype === "U32" && this.#tensors.has(`${stem}.scales`)) return this.#mlx(stem, shape, elements);
    if (dtype === "U8" || dtype === "I8") return this.#isFloat4(name, stem, elements) ? 2 * elements : null;
    return null;
  }

  /**
   * GPTQ packs inputs [in * bits / 32, out], AWQ outputs [in, out * bits / 32]; scales are [groups, out] in both, and
   * GPTQ's g_idx [in]. So shapes say how many values there are, whatever bits a layer has.
   */
  #gptqOrAwq(stem: string, shape: readonly number[], elements: number): number {
    const bits = this.#bits() ?? 4;
    const [rows, columns] = shape.slice(-2);
    const outputs = this.#tensors.get(`${stem}.scales`)?.shape.at(-1);
    if (rows === undefined || columns === undefined || outputs === undefined) return (elements * 32) / bits;
    const batch = elements / (rows * columns);
    if (outputs !== columns) return batch * rows * outputs;
    const inputs = this.#tensors.get(`${stem}.g_idx`)?.shape.at(-1);
    return batch * outputs * (inputs ?? (rows * 32) / bits);
  }

  /**
   * compressed-tensors: [out, in * bits / 32], rows padded to whole words. Scales [out, groups] tell layers of other bits, and
   * with the size of a group how many values a row has.
   */
  #packedWords(stem: string, shape: readonly number[], elements: number): number {
    const groups = this.#tensors.get(`${stem}.weight_scale`)?.shape.at(-1);
    const words = shape.at(-1) ?? 0;
    const isOf = ({ bits, groupSize }: PackedGroup) =>
      groups !== undefined && groupSize !== null && Math.ceil((groups * groupSize * bits) / 32) === words;
    const known = packedGroups(this.#config);
    const own = known.find(isOf);
    if (own !== undefined) return (elements / words) * groups! * own.groupSize!;
    const bits = (known.find(({ groupSize }) => groupSize === null) ?? known[0])?.bits ?? 4;
    return (elements / Math.max(1, words)) * Math.floor((words * 32) / bits);
  }

  /** MLX: weights [.., out, in * bits / 32], scales [.., out, in / group size]; layers may have settings of their own. */
  #mlx(stem: string, shape: readonly number[], elements: number): number {
    const own = asObject(this.#config[stem]);
    const groupSize = own["group_size"] ?? this.#config["group_size"];
    const groups = this.#tensors.get(`${stem}.scales`)!.shape.at(-1);
    const words = shape.at(-1);
    if (isPositive(groupSize) && groups !== undefined && words) return (elements / words) * groups * groupSize;
    return (elements * 32) / (this.#bits(own) ?? 4);
  }

  /**
   * Two FP4 values in a byte: NVFP4 has a scale (F8_E4M3) for 16 of them, MXFP4 one (F8_E8M0, also as U8) for 32; those of
   * bitsandbytes have a quantisation state beside them. Int8 has a scale a row, and as many bytes as values.
   */
  #isFloat4(name: string, stem: string, elements: number): boolean {
    const has = (other: string) => this.#tensors.has(other);
    if (has(`${name}.quant_state.bitsandbytes__nf4`) || has(`${name}.quant_state.bitsandbytes__fp4`)) return true;
    if (name.endsWith("_blocks") && has(`${name.slice(0, -"_blocks".length)}_scales`)) return true;
    const scale = [`${name}_scale`, `${name}_scale_inv`, `${name}_scales`, `${stem}.scale`, `${stem}.scales`]
      .map((other) => this.#tensors.get(other))
      .find((found) => found !== undefined);
    if (scale === undefined) return false;
    const valuesPerScale = { F8_E4M3: 16, F8_E8M0: 32, U8: 32 }[scale.dtype as string];
    if (valuesPerScale === undefined) return saysFloat4(this.#config);
    return elements / Math.max(1, elementCount(scale.shape)) <= valuesPerScale / 2;
  }

  /** Bits of a value that config.json names, where it names one for all. */
  #bits(own: Json = {}): number | null {
    const nested = asObject(asObject(this.#config["quant_config"])["weight_quant_params"])["nbits"];
    return (
      [own["bits"], this.#config["bits"], this.#config["w_bit"], nested].find(isPositive) ??
      packedGroups(this.#config)[0]?.bits ??
      null
    );
  }

  /**
   * True where the values that a scale belongs to are there. Some models have learnable scales under such names, and those
   * are parameters.
   */
  #isBesideValues({ name, shape }: TensorEntry): boolean {
    if (/[._](?:[kvq]|kv|prob|input|output)_scale$/.test(name) && elementCount(shape) <= 1) return true;
    const match = companion.exec(name);
    if (match === null) return false;
    const stem = name.slice(0, match.index);
    // "<module>.weight_scale": what is left before "weight_" names the module, or the values themselves.
    const values = valueNames
      .map((ending) => this.#tensors.get(`${stem}${ending}`))
      .find((found) => found !== undefined);
    if (values === undefined) return false;
    return !ambiguous.test(match[0]) || !plainDtypes.has(values.dtype);
  }
}

type Json = { readonly [key: string]: unknown };

/** dtypes whose elements are parameters, one each. */
const plainDtypes: ReadonlySet<string> = new Set([
  "BF16",
  "F16",
  "F32",
  "F64",
  "F8_E4M3",
  "F8_E5M2",
  "F8_E4M3FNUZ",
  "F8_E5M2FNUZ",
  "F4",
  "F6_E2M3",
  "F6_E3M2",
]);

/** What formats store beside the values: scales, zero points, permutations, code tables, original shapes. */
const companion = new RegExp(
  [
    ...["scale_inv", "scales?", "scale_2", "global_scale", "zero_point", "shape", "g_idx"].map(
      (end) => `(?:\\.weight|\\.qweight|\\.input)?_${end}`,
    ),
    ...[
      "scales?",
      "qzeros",
      "zeros?",
      "g_idx",
      "perm",
      "biases",
      "SCB",
      "weight_format",
      "meta",
      "pre_quant_scale",
    ].map((end) => `\\.${end}`),
    ...["absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state\\.bitsandbytes__\\w+"].map(
      (end) => `\\.${end}`,
    ),
  ]
    .map((ending) => `(?:${ending})$`)
    .join("|"),
);
/** Endings that parameters have too: they are companions of packed values alone. */
const ambiguous = /^\.(?:scales?|zeros?|biases|meta|perm)$/;
const valueNames = ["", ".weight", ".qweight", ".weight_packed", "_packed", "_blocks", ".W_q", ".weight_blocks"];

/** Where loaders find the settings: config.json's own, those of the language model in it, or MLX's. */
function quantisationConfig(config: Json): Json {
  const places = [config, asObject(config["text_config"]), asObject(config["language_config"])];
  const keys = ["quantization_config", "compression_config", "quantization"];
  const found = places.flatMap((place) => keys.map((key) => asObject(place[key])));
  return Object.assign(
    {},
    pickExpertDtype(config),
    ...found.filter((one) => Object.keys(one).length > 0).slice(0, 1),
  ) as Json;
}

function pickExpertDtype(config: Json): Json {
  return Object.hasOwn(config, "expert_dtype") ? { expert_dtype: config["expert_dtype"] } : {};
}

interface PackedGroup {
  bits: number;
  groupSize: number | null;
}

/** Weight settings of compressed-tensors' groups. */
function packedGroups(config: Json): PackedGroup[] {
  return Object.values(asObject(config["config_groups"])).flatMap((group) => {
    const { num_bits: bits, group_size: groupSize } = asObject(asObject(group)["weights"]);
    return isPositive(bits) ? [{ bits, groupSize: isPositive(groupSize) ? groupSize : null }] : [];
  });
}

function saysFloat4(config: Json): boolean {
  const said = ["quant_method", "quant_algo", "format", "fmt", "expert_dtype"].map((key) => config[key]);
  return said.some((value) => typeof value === "string" && /fp4|f4|e2m1/i.test(value));
}

function asObject(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

function isPositive(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}
