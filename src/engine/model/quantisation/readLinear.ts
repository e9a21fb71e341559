import { RerouteError } from "../../../protocol/errors";
import type { TensorEntry } from "../../checkpoint/checkpoint";
import { quote } from "../../checkpoint/quote";
import type { DType } from "../../tensor/dtype";
import { packedRowBytes } from "../../weights/bitStream";
import { mxfp4Group, nvfp4Group } from "../../weights/float4";
import type { Bits, Quantisation, WeightView } from "../../weights/view";
import type { Scheme } from "./scheme";

/** What reading needs of a checkpoint's weights. */
export interface StoredTensors {
  has(name: string): boolean;
  shapeOf(name: string): readonly number[] | null;
  /** @throws RerouteError checkpoint/missing-tensor, checkpoint/shape-mismatch */
  entry(name: string, shape: readonly number[], because: string): TensorEntry;
}

/** Where one matrix is: its module, sizes, and what in config.json implies them. */
export interface StoredModule {
  prefix: string;
  outputs: number;
  inputs: number;
  because: string;
}

/** A matrix [out, in] or [in, out] as its layout says. */
export interface ReadMatrix {
  weight: WeightView;
  layout: "out-in" | "in-out";
}

/** Endings of what a quantised module stores under `<prefix>.`. */
export const storedEndings = [
  ...["weight", "weight_scale_inv", "weight_packed", "weight_scale", "weight_global_scale", "weight_shape"],
  ...["weight_zero_point", "qweight", "qzeros", "scales", "g_idx"],
] as const;

/** Tensors whose name alone says that a module is packed. */
const packedEndings = ["weight_packed", "qweight"] as const;

/** Whether a module stores its matrix in words or nibbles, under another name than `weight`. */
export function isPacked(weights: Pick<StoredTensors, "has">, prefix: string): boolean {
  return packedEndings.some((ending) => weights.has(`${prefix}.${ending}`));
}

/**
 * The matrix of a packed module.
 * @throws RerouteError model/unsupported-option where quantization_config says nothing of it, or for sizes that its group
 *   does not divide; checkpoint/missing-tensor, checkpoint/shape-mismatch, checkpoint/unsupported-dtype
 */
export function readPacked(weights: StoredTensors, scheme: Scheme | null, module: StoredModule): ReadMatrix {
  switch (scheme?.kind) {
    case "packed":
      return readPackedIntegers(weights, scheme, module);
    case "mxfp4":
    case "nvfp4":
      return readFloat4(weights, scheme.kind, module);
    case "gptq":
    case "awq":
      return readGrouped(weights, scheme, module);
    default:
      throw new RerouteError(
        "model/unsupported-option",
        `${quote(module.prefix)} is stored packed, but quantization_config of config.json says nothing of it; its words would be ` +
          `read as weights. Restore the config.json that belongs to this checkpoint, or convert the checkpoint to BF16`,
      );
  }
}

function readPackedIntegers(
  weights: StoredTensors,
  { bits, group }: Extract<Scheme, { kind: "packed" }>,
  { prefix, outputs, inputs, because }: StoredModule,
): ReadMatrix {
  if (weights.has(`${prefix}.weight_g_idx`)) throw refuseOrder(`${prefix}.weight_g_idx`);
  const columns = checkGroup(prefix, inputs, group);
  const name = (ending: string) => `${prefix}.weight_${ending}`;
  const codes = typed(weights.entry(name("packed"), [outputs, packedRowBytes(inputs, bits) / 4], because), ["I32"]);
  const scales = typed(weights.entry(name("scale"), [outputs, inputs / columns], because), floats);
  if (weights.has(name("shape"))) weights.entry(name("shape"), [2], because);
  const zeros = weights.has(name("zero_point"))
    ? typed(weights.entry(name("zero_point"), [packedRowBytes(outputs, bits) / 4, inputs / columns], because), ["I32"])
    : null;
  return matrix(codes, [outputs, inputs], "out-in", {
    ...{ kind: "packed", bits, group: columns, scales: whole(scales) },
    zeros: zeros && whole(zeros),
  });
}

function readFloat4(
  weights: StoredTensors,
  kind: "mxfp4" | "nvfp4",
  { prefix, outputs, inputs, because }: StoredModule,
): ReadMatrix {
  const group = checkGroup(prefix, inputs, kind === "mxfp4" ? mxfp4Group : nvfp4Group);
  const codes = typed(weights.entry(`${prefix}.weight_packed`, [outputs, inputs / 2], because), ["U8"]);
  const scales = weights.entry(`${prefix}.weight_scale`, [outputs, inputs / group], because);
  if (kind === "mxfp4") {
    typed(scales, ["U8", "F8_E8M0"]);
    return matrix(codes, [outputs, inputs], "out-in", { kind, scales: whole(scales) });
  }
  typed(scales, ["F8_E4M3"]);
  const global = typed(weights.entry(`${prefix}.weight_global_scale`, [1], because), ["F32"]);
  return matrix(codes, [outputs, inputs], "out-in", { kind, scales: whole(scales), global: whole(global) });
}

function readGrouped(
  weights: StoredTensors,
  scheme: Extract<Scheme, { kind: "gptq" | "awq" }>,
  { prefix, outputs, inputs, because }: StoredModule,
): ReadMatrix {
  const { kind } = scheme;
  const bits: Bits = scheme.kind === "gptq" ? scheme.bits : 4;
  const group = checkGroup(prefix, inputs, scheme.group);
  const words = (count: number) => {
    if ((count * bits) % 32 === 0) return (count * bits) / 32;
    throw new RerouteError(
      "model/unsupported-option",
      `${quote(prefix)} has ${count} rows or columns of ${bits} bits, which do not fill whole words as ${kind} stores them. Convert the checkpoint to BF16`,
    );
  };
  const shape = kind === "gptq" ? [words(inputs), outputs] : [inputs, words(outputs)];
  const codes = typed(weights.entry(`${prefix}.qweight`, shape, because), ["I32"]);
  const scales = typed(weights.entry(`${prefix}.scales`, [inputs / group, outputs], because), floats);
  const zeros = typed(weights.entry(`${prefix}.qzeros`, [inputs / group, words(outputs)], because), ["I32"]);
  if (weights.has(`${prefix}.g_idx`)) weights.entry(`${prefix}.g_idx`, [inputs], because);
  return matrix(codes, [inputs, outputs], "in-out", {
    ...{ kind, bits, group, scales: whole(scales), zeros: whole(zeros) },
    zeroOffset: scheme.kind === "gptq" ? scheme.zeroOffset : 0,
  });
}

/** Scales of 8-bit codes [rows, columns], and the block that each is for. */
export function readScales(
  weights: StoredTensors,
  { scale, block }: Extract<Scheme, { kind: "scaled" }>,
  name: string,
  [rows, columns]: readonly [number, number],
  because: string,
): Extract<Quantisation, { kind: "scaled" }> {
  const scaleName = `${name}_${scale}`;
  const [blockRows, blockColumns] = block === "row" ? [1, columns] : block === "tensor" ? [rows, columns] : block;
  const shape = [Math.ceil(rows / blockRows), Math.ceil(columns / blockColumns)];
  // One scale a row or for all may be stored as a vector.
  const isVector = typeof block === "string" && weights.shapeOf(scaleName)?.length === 1;
  const scales = typed(weights.entry(scaleName, isVector ? [shape[0]!] : shape, because), floats);
  return { kind: "scaled", scales: whole(scales), blockRows, blockColumns };
}

/**
 * The group that a row of `width` is cut into: `group`, or all of it.
 * @throws RerouteError model/unsupported-option naming those that divide the width
 */
function checkGroup(prefix: string, width: number, group: number | null): number {
  if (group === null) return width;
  if (width % group === 0) return group;
  const fitting = [16, 32, 64, 128, 256].filter((one) => width % one === 0);
  throw new RerouteError(
    "model/unsupported-option",
    `quantization_config of config.json says that ${group} inputs share a scale, which does not divide the ${width} inputs of ` +
      `${quote(prefix)}${fitting.length > 0 ? ` (${fitting.join(", ")} do)` : ""}. Is this the config.json of this checkpoint?`,
  );
}

function refuseOrder(name: string): RerouteError {
  return new RerouteError(
    "model/unsupported-option",
    `The tensor ${quote(name)} gives inputs an order of their own, which no current server loads and Reroute does not read. ` +
      `Quantise again with static order, or convert the checkpoint to BF16`,
  );
}

const floats: readonly DType[] = ["F32", "F16", "BF16"];

function typed(entry: TensorEntry, expected: readonly DType[]): TensorEntry {
  if (expected.includes(entry.dtype)) return entry;
  throw new RerouteError(
    "checkpoint/unsupported-dtype",
    `tensor ${quote(entry.name)} in ${quote(entry.shard.name)} is stored as ${entry.dtype}, expected ${expected.join(", ")}. Convert the checkpoint to BF16`,
  );
}

function whole({ name, shape, dtype }: TensorEntry): WeightView {
  return { tensor: name, offset: 0, shape, dtype };
}

function matrix(
  codes: TensorEntry,
  shape: readonly number[],
  layout: ReadMatrix["layout"],
  quantisation: Quantisation,
): ReadMatrix {
  return { layout, weight: { tensor: codes.name, offset: 0, shape, dtype: codes.dtype, quantisation } };
}
