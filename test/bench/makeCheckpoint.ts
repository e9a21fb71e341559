import { writeCheckpoint, type WriteCheckpointOptions } from "../../src/engine/checkpoint/write";
import type { ByteSource, TensorSource } from "../../src/engine/checkpoint/tensorSource";
import { elementCount } from "../../src/engine/tensor/dtype";
import { bytesOf } from "../../src/engine/tensor/floatCodec";
import { float32ToBfloat16 } from "../../src/engine/tensor/halfPrecision";
import { createRandom } from "../../src/engine/tensor/random";
import { syntheticFamilies, type SyntheticFamily, type SyntheticModel } from "./syntheticFamilies";
import type { SyntheticShape, SyntheticTensor } from "./syntheticTensors";

export interface SyntheticOptions extends Pick<WriteCheckpointOptions, "signal" | "onProgress"> {
  directory: string;
  family: SyntheticFamily;
  shape: Partial<SyntheticShape>;
  seed?: number;
  /** "random": normal weights. "low-rank": the product of two thin random matrices plus a little noise. */
  weights?: "random" | "low-rank";
  rank?: number;
  /** Standard deviation of the weights; 0.02 is how these families are initialised. */
  deviation?: number;
  /** Share of the variance that is noise in a low-rank matrix. */
  noise?: number;
  /** 4e9 as published checkpoints have it. */
  maxShardBytes?: number;
  /** A folder to take tokenizer files from. */
  tokenizerFrom?: string;
  /** Keys to add to config.json or to replace there. */
  config?: { [key: string]: unknown };
}

/** Shape of Qwen3-30B-A3B with few layers. */
export const defaultShape: SyntheticShape = {
  hiddenSize: 2048,
  numLayers: 2,
  numExperts: 128,
  numExpertsPerToken: 8,
  moeIntermediateSize: 768,
  vocabSize: 32000,
  numHeads: 32,
  numKeyValueHeads: 4,
  headDim: 128,
  sharedIntermediateSize: 768,
  tieWordEmbeddings: false,
  maxPositionEmbeddings: 4096,
};

/**
 * Streams a synthetic bf16 checkpoint to disk, in constant memory: the same options give the same bytes. Random weights
 * are slices of one seeded block, at a random place for each tensor, so that writing runs at the disk's rate.
 */
export async function makeCheckpoint(
  options: SyntheticOptions,
): Promise<{ shards: string[]; bytes: number; tensors: number }> {
  const { directory, family, seed = 1, deviation = 0.02, maxShardBytes = 4e9 } = options;
  const model = syntheticFamilies[family]({ ...defaultShape, ...options.shape });
  const block = normalBlock(model, seed, deviation);
  const tensors = model.tensors.map((tensor, i) => {
    if (tensor.fill === "ones") return source(tensor, [onesPart(elementCount(tensor.shape))]);
    const isLowRank = options.weights === "low-rank" && tensor.shape.length === 2;
    return source(tensor, isLowRank ? lowRankParts(tensor, block, i, options) : blockParts(tensor, block, i, seed));
  });
  const written = await writeCheckpoint({
    directory,
    tensors,
    config: { ...model.config, ...options.config },
    maxShardBytes,
    ...(options.tokenizerFrom === undefined ? {} : { copyFilesFrom: options.tokenizerFrom }),
    ...(options.signal ? { signal: options.signal } : {}),
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  });
  return { ...written, tensors: tensors.length };
}

/** Primes, so that rows of a power of two never fall on the same place again. The largest is about 16 MB of bf16. */
const blockLengths = [65_521, 1_048_573, 8_388_593];

/** A small model takes a small block: filling the largest takes about half a second. */
function normalBlock(model: SyntheticModel, seed: number, deviation: number): Uint16Array {
  const total = model.tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const length = blockLengths.find((candidate) => candidate * 8 >= total) ?? blockLengths.at(-1)!;
  const random = createRandom(seed);
  return float32ToBfloat16(Float32Array.from({ length }, () => random.normal() * deviation));
}

function source({ name, shape }: SyntheticTensor, parts: ByteSource[]): TensorSource {
  return { name, dtype: "BF16", shape, parts };
}

function onesPart(count: number): ByteSource {
  return { kind: "bytes", byteLength: count * 2, data: () => bytesOf(new Uint16Array(count).fill(0x3f80)) };
}

function blockParts(tensor: SyntheticTensor, block: Uint16Array, index: number, seed: number): ByteSource[] {
  const parts: ByteSource[] = [];
  let from = createRandom(seed, index + 1).below(block.length);
  for (let left = elementCount(tensor.shape); left > 0; from = 0) {
    const slice = block.subarray(from, from + left);
    parts.push({ kind: "bytes", byteLength: slice.byteLength, data: () => bytesOf(slice) });
    left -= slice.length;
  }
  return parts;
}

/** W[o, i] = s * sum_k left[o, k] right[k, i] / sqrt(rank) + noise, with the variance of a random matrix. In row parts. */
function lowRankParts(
  tensor: SyntheticTensor,
  block: Uint16Array,
  index: number,
  options: SyntheticOptions,
): ByteSource[] {
  const [rows = 0, columns = 0] = tensor.shape;
  const { seed = 1, rank = 16, noise = 0.1, deviation = 0.02 } = options;
  const rowsPerPart = Math.max(1, Math.floor((4 * 2 ** 20) / (2 * columns)));
  const parts: ByteSource[] = [];
  for (let first = 0; first < rows; first += rowsPerPart) {
    const count = Math.min(rowsPerPart, rows - first);
    parts.push({
      kind: "bytes",
      byteLength: count * columns * 2,
      data: () => {
        const random = createRandom(seed, index + 1);
        const right = Float32Array.from({ length: rank * columns }, () => random.normal());
        const left = createRandom(seed, (index + 1) * 1_000_003 + first);
        const noiseFrom = left.below(block.length);
        const scale = deviation * Math.sqrt((1 - noise) / rank);
        const values = new Float32Array(count * columns);
        for (let r = 0; r < count; r++) {
          const row = values.subarray(r * columns, (r + 1) * columns);
          for (let k = 0; k < rank; k++) {
            const factor = left.normal() * scale;
            const basis = right.subarray(k * columns, (k + 1) * columns);
            for (let c = 0; c < columns; c++) row[c] = row[c]! + factor * basis[c]!;
          }
          addNoise(row, block, noiseFrom + r * columns, Math.sqrt(noise));
        }
        return bytesOf(float32ToBfloat16(values));
      },
    });
  }
  return parts;
}

const widened = new Float32Array(1);
const widenedBits = new Uint32Array(widened.buffer);

function addNoise(row: Float32Array, block: Uint16Array, from: number, factor: number): void {
  for (let c = 0; c < row.length; c++) {
    widenedBits[0] = block[(from + c) % block.length]! << 16;
    row[c] = row[c]! + factor * widened[0]!;
  }
}
