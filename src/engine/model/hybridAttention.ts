import { readInt, unsupported, type Config } from "./config";
import type { AttentionReader, FamilyContext } from "./decoderFamily";
import type { DecoderSizes } from "./decoder";
import type { GatedDelta } from "./description";
import { readTypes } from "./layerTypes";
import { settle, type Setting } from "./settings";

/** Layers that differ in how they mix tokens: `layer_types` says which reader reads which. */
export function byType<T extends string>(
  readers: Readonly<Record<T, AttentionReader>>,
  /** Without `layer_types`; default: it must be there. */
  pattern?: (config: Config, sizes: DecoderSizes) => (layer: number) => T,
): AttentionReader {
  return (context) => {
    const { config, sizes } = context;
    const names = Object.keys(readers) as T[];
    const types = readTypes(config, "layer_types", sizes.numLayers, names);
    const typeOf = types === null ? pattern?.(config, sizes) : (layer: number) => types[layer]!;
    if (typeOf === undefined) throw unsupported("layer_types", null, `one of ${names.join(", ")} for each layer`);
    const open = new Map<T, ReturnType<AttentionReader>>();
    return (index, prefix, layer) => {
      const type = typeOf(index);
      const read = open.get(type) ?? readers[type](context);
      open.set(type, read);
      return read(index, prefix, layer);
    };
  };
}

/** Qwen's pattern: every n-th layer compares positions, the others carry a state. */
export function linearButEvery(key: string, absent: number) {
  return (config: Config) => {
    const every = readInt(config, key, { min: 1, default: absent });
    return (layer: number) => ((layer + 1) % every === 0 ? ("full_attention" as const) : ("linear_attention" as const));
  };
}

/** Gated delta rule under `<layer>.linear_attn`; `input` reads its projections. */
export function readGatedDelta(
  input: (context: FamilyContext, prefix: string, sizes: DeltaSizes) => GatedDelta["input"],
): AttentionReader {
  return (context) => {
    const { weights } = context;
    const { hiddenSize, normEpsilon } = context.sizes;
    const delta = readDeltaSizes(context.config);
    const { numKeyHeads, numValueHeads, keyHeadDim, valueHeadDim, kernel, because } = delta;
    const values = numValueHeads * valueHeadDim;
    return (_, __, layer) => {
      const prefix = `${layer}.linear_attn`;
      return {
        kind: "gated-delta",
        ...{ numKeyHeads, numValueHeads, keyHeadDim, valueHeadDim },
        input: input(context, prefix, delta),
        conv: weights.view(`${prefix}.conv1d.weight`, [2 * numKeyHeads * keyHeadDim + values, 1, kernel], because),
        logRate: weights.view(`${prefix}.A_log`, [numValueHeads], because),
        timeBias: weights.view(`${prefix}.dt_bias`, [numValueHeads], because),
        outputNorm: weights.norm("rms", `${prefix}.norm`, valueHeadDim, normEpsilon, because),
        output: weights.linear(`${prefix}.out_proj`, values, hiddenSize, { bias: false, because }),
      };
    };
  };
}

export interface DeltaSizes extends Pick<GatedDelta, "numKeyHeads" | "numValueHeads" | "keyHeadDim" | "valueHeadDim"> {
  kernel: number;
  because: string;
}

function readDeltaSizes(config: Config): DeltaSizes {
  const size = (key: string, absent: number) => readInt(config, `linear_${key}`, { min: 1, default: absent });
  const sizes = {
    numKeyHeads: size("num_key_heads", 16),
    numValueHeads: size("num_value_heads", 32),
    keyHeadDim: size("key_head_dim", 128),
    valueHeadDim: size("value_head_dim", 128),
    kernel: size("conv_kernel_dim", 4),
  };
  const { numKeyHeads, numValueHeads } = sizes;
  if (numValueHeads % numKeyHeads !== 0) {
    throw unsupported("linear_num_value_heads", numValueHeads, `a multiple of linear_num_key_heads = ${numKeyHeads}`);
  }
  const because = `linear_num_key_heads = ${numKeyHeads} of ${sizes.keyHeadDim}, linear_num_value_heads = ${numValueHeads} of ${sizes.valueHeadDim}`;
  return { ...sizes, because };
}

/** LFM2's gated short convolution under `<layer>.conv`. */
export function readShortConv(table: { kernel: Setting<number>; bias: Setting<boolean> }): AttentionReader {
  return ({ config, weights, sizes: { hiddenSize } }) => {
    const kernel = settle(table.kernel, config, 0);
    const bias = settle(table.bias, config, false);
    const because = `hidden_size = ${hiddenSize}, conv_L_cache = ${kernel}, conv_bias = ${bias}`;
    return (_, __, layer) => {
      const prefix = `${layer}.conv`;
      return {
        kind: "short-conv",
        channels: hiddenSize,
        input: weights.linear(`${prefix}.in_proj`, hiddenSize, 3 * hiddenSize, { bias, because }),
        weight: weights.view(`${prefix}.conv.weight`, [hiddenSize, 1, kernel], because),
        bias: bias ? weights.view(`${prefix}.conv.bias`, [hiddenSize], because) : null,
        output: weights.linear(`${prefix}.out_proj`, hiddenSize, hiddenSize, { bias, because }),
      };
    };
  };
}
