/**
 * Packed layouts written and read in plain loops from their descriptions, to hold the engine against: it shares no code
 * with this file. Matrices are [outputs, inputs]; u are unsigned codes.
 */
import { float8E4M3Values } from "../../src/engine/tensor/float8";
import { bytesOf, decodeFloats, encodeFloats } from "../../src/engine/tensor/floatCodec";
import type { MemoryTensor } from "../../src/engine/checkpoint/safetensorsFile";
import type { Random } from "../../src/engine/tensor/random";

/** A module as it is stored, its quantization_config, and the numbers [outputs, inputs] that it stands for. */
export interface PackedModule {
  tensors: Record<string, MemoryTensor>;
  quantisation: Record<string, unknown>;
  values: Float32Array;
}

/** One layout, for a matrix of random codes and scales. */
export type PackedLayout = (outputs: number, inputs: number, random: Random) => PackedModule;

/** Rows of integers as a bit stream, lowest bit first, each row filled up to whole 32-bit words. */
export function packRows(codes: ArrayLike<number>, width: number, bits: number): Int32Array {
  const rows = codes.length / width;
  const words = Math.ceil((width * bits) / 32);
  const result = new Int32Array(rows * words);
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < width; i++) {
      for (let b = 0; b < bits; b++) {
        const bit = (codes[r * width + i]! >> b) & 1;
        const position = i * bits + b;
        result[r * words + (position >> 5)]! |= bit << (position & 31);
      }
    }
  }
  return result;
}

/** The inverse of packRows. */
export function unpackRows(words: Int32Array, rows: number, width: number, bits: number): Int32Array {
  const perRow = words.length / rows;
  return Int32Array.from({ length: rows * width }, (_, at) => {
    const [r, i] = [Math.floor(at / width), at % width];
    let code = 0;
    for (let b = 0; b < bits; b++) {
      const position = i * bits + b;
      code |= ((words[r * perRow + (position >> 5)]! >>> (position & 31)) & 1) << b;
    }
    return code;
  });
}

export function transposed<T extends Int32Array | Float32Array>(values: T, rows: number): T {
  const columns = values.length / rows;
  return values.map((_, at) => values[(at % rows) * columns + Math.floor(at / rows)]!) as T;
}

const compressed = (format: string, weights: Record<string, unknown>) => ({
  quant_method: "compressed-tensors",
  quantization_status: "compressed",
  format,
  ignore: ["lm_head"],
  config_groups: { group_0: { targets: ["Linear"], weights, input_activations: null, output_activations: null } },
});

/** compressed-tensors pack-quantized; group 0: one scale a row. */
export const packQuantized =
  (bits: number, group: number, symmetric = true, scaleType: "BF16" | "F16" | "F32" = "BF16"): PackedLayout =>
  (O, I, random) => {
    const size = group || I;
    const groups = I / size;
    const u = draw(O * I, 2 ** bits, random);
    const scales = drawScales(O * groups, scaleType, random);
    const zeros = symmetric ? null : draw(O * groups, 2 ** bits, random);
    const values = numbers(O, I, (o, i) => {
      const g = o * groups + Math.floor(i / size);
      return Math.fround((u[o * I + i]! - (zeros ? zeros[g]! : 2 ** (bits - 1))) * scales.values[g]!);
    });
    return {
      values,
      quantisation: compressed("pack-quantized", {
        ...{ num_bits: bits, type: "int", symmetric },
        ...{ strategy: group === 0 ? "channel" : "group", group_size: group || null },
      }),
      tensors: {
        weight_packed: int32([O, Math.ceil((I * bits) / 32)], packRows(u, I, bits)),
        weight_scale: scales.tensor([O, groups]),
        weight_shape: { dtype: "I64", shape: [2], data: bytesOf(BigInt64Array.of(BigInt(O), BigInt(I))) },
        ...(zeros && {
          // Along the rows: word w of a column holds the zeros of its outputs.
          weight_zero_point: int32(
            [Math.ceil((O * bits) / 32), groups],
            transposed(packRows(transposed(zeros, O), O, bits), groups),
          ),
        }),
      },
    };
  };

/** compressed-tensors int-quantized and float-quantized. */
export const eightBits =
  (type: "int" | "float", strategy: "channel" | "tensor" | [number, number]): PackedLayout =>
  (O, I, random) => {
    const [rows, columns] = strategy === "channel" ? [1, I] : strategy === "tensor" ? [O, I] : strategy;
    const shape = [Math.ceil(O / rows), Math.ceil(I / columns)];
    // 0x7f and 0xff are NaN in E4M3.
    const codes = Uint8Array.from(draw(O * I, 256, random), (code) => ((code & 0x7f) === 0x7f ? 0 : code));
    const scales = drawScales(shape[0]! * shape[1]!, "BF16", random);
    const number = (code: number) => (type === "int" ? (code << 24) >> 24 : float8E4M3Values[code]!);
    return {
      values: numbers(O, I, (o, i) =>
        Math.fround(
          number(codes[o * I + i]!) * scales.values[Math.floor(o / rows) * shape[1]! + Math.floor(i / columns)]!,
        ),
      ),
      quantisation: compressed(`${type}-quantized`, {
        ...{ num_bits: 8, type, symmetric: true, strategy: typeof strategy === "string" ? strategy : "block" },
        ...(typeof strategy === "string" ? {} : { block_structure: strategy }),
      }),
      tensors: {
        weight: { dtype: type === "int" ? "I8" : "F8_E4M3", shape: [O, I], data: codes },
        weight_scale: scales.tensor(strategy === "tensor" ? [1] : shape),
      },
    };
  };

const fp4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
const fp4Value = (code: number) => (code & 8 ? -fp4[code & 7]! : fp4[code & 7]!);
const nibblePairs = (codes: Int32Array) =>
  Uint8Array.from({ length: codes.length / 2 }, (_, i) => codes[2 * i]! | (codes[2 * i + 1]! << 4));

export const mxfp4Packed: PackedLayout = (O, I, random) => {
  const codes = draw(O * I, 16, random);
  const exponents = Uint8Array.from({ length: (O * I) / 32 }, () => 115 + random.below(10));
  return {
    values: numbers(O, I, (o, i) => fp4Value(codes[o * I + i]!) * 2 ** (exponents[(o * I + i) >> 5]! - 127)),
    quantisation: compressed("mxfp4-pack-quantized", { num_bits: 4, type: "float", strategy: "group", group_size: 32 }),
    tensors: {
      weight_packed: { dtype: "U8", shape: [O, I / 2], data: nibblePairs(codes) },
      weight_scale: { dtype: "U8", shape: [O, I / 32], data: exponents },
    },
  };
};

export const nvfp4Packed: PackedLayout = (O, I, random) => {
  const codes = draw(O * I, 16, random);
  const scales = Uint8Array.from({ length: (O * I) / 16 }, () => 1 + random.below(0x7e));
  const global = Math.fround(300 + 50 * random.uniform());
  return {
    values: numbers(O, I, (o, i) =>
      Math.fround(fp4Value(codes[o * I + i]!) * Math.fround(float8E4M3Values[scales[(o * I + i) >> 4]!]! / global)),
    ),
    quantisation: compressed("nvfp4-pack-quantized", {
      ...{ num_bits: 4, type: "float", strategy: "tensor_group", group_size: 16 },
    }),
    tensors: {
      weight_packed: { dtype: "U8", shape: [O, I / 2], data: nibblePairs(codes) },
      weight_scale: { dtype: "F8_E4M3", shape: [O, I / 16], data: scales },
      weight_global_scale: { dtype: "F32", shape: [1], data: bytesOf(Float32Array.of(global)) },
    },
  };
};

/** GPTQ: words hold inputs [I * bits / 32, O]; zeros along the outputs, minus one in the first version. */
export const gptqPacked =
  (bits: number, group: number, version: 1 | 2): PackedLayout =>
  (O, I, random) => {
    const groups = I / group;
    const u = draw(I * O, 2 ** bits, random);
    // The first version cannot store a zero of 0.
    const zeros = draw(groups * O, 2 ** bits - 1, random).map((zero) => zero + (version === 1 ? 1 : 0));
    const scales = drawScales(groups * O, "F16", random);
    return {
      values: numbers(O, I, (o, i) => {
        const g = Math.floor(i / group) * O + o;
        return Math.fround((u[i * O + o]! - zeros[g]!) * scales.values[g]!);
      }),
      quantisation: {
        ...{ quant_method: "gptq", bits, group_size: group, sym: false, desc_act: false },
        checkpoint_format: version === 1 ? "gptq" : "gptq_v2",
      },
      tensors: {
        qweight: int32([(I * bits) / 32, O], transposed(packRows(transposed(u, I), I, bits), O)),
        qzeros: int32(
          [groups, (O * bits) / 32],
          packRows(
            zeros.map((zero) => zero - (version === 1 ? 1 : 0)),
            O,
            bits,
          ),
        ),
        scales: scales.tensor([groups, O]),
        g_idx: int32(
          [I],
          Int32Array.from({ length: I }, (_, i) => Math.floor(i / group)),
        ),
      },
    };
  };

/** AWQ gemm: nibble j of a word holds output (0, 2, 4, 6, 1, 3, 5, 7)[j] of its eight. */
export const awqPacked =
  (group: number): PackedLayout =>
  (O, I, random) => {
    const groups = I / group;
    const u = draw(I * O, 16, random);
    const zeros = draw(groups * O, 16, random);
    const scales = drawScales(groups * O, "F16", random);
    return {
      values: numbers(O, I, (o, i) => {
        const g = Math.floor(i / group) * O + o;
        return Math.fround((u[i * O + o]! - zeros[g]!) * scales.values[g]!);
      }),
      quantisation: { quant_method: "awq", version: "gemm", bits: 4, group_size: group, zero_point: true },
      tensors: {
        qweight: int32([I, O / 8], packRows(shuffled(u), O, 4)),
        qzeros: int32([groups, O / 8], packRows(shuffled(zeros), O, 4)),
        scales: scales.tensor([groups, O]),
      },
    };
  };

export const awqOrder = [0, 2, 4, 6, 1, 3, 5, 7];
export function shuffled(codes: Int32Array): Int32Array {
  return codes.map((_, at) => codes[at - (at % 8) + awqOrder[at % 8]!]!);
}

function numbers(O: number, I: number, value: (o: number, i: number) => number): Float32Array {
  return Float32Array.from({ length: O * I }, (_, at) => value(Math.floor(at / I), at % I));
}

function draw(count: number, below: number, random: Random): Int32Array {
  return Int32Array.from({ length: count }, () => random.below(below));
}

function drawScales(count: number, dtype: "BF16" | "F16" | "F32", random: Random) {
  const data = encodeFloats(
    Float32Array.from({ length: count }, () => 0.01 * (1 + random.uniform())),
    dtype,
  );
  return { values: decodeFloats(data, dtype), tensor: (shape: number[]): MemoryTensor => ({ dtype, shape, data }) };
}

function int32(shape: number[], words: Int32Array): MemoryTensor {
  return { dtype: "I32", shape, data: bytesOf(words) };
}
