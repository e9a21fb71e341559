import type { TensorStatistics } from "../../protocol/checkpointSummary";
import type { DType } from "../tensor/dtype";
import { decodeFloats } from "../tensor/floatCodec";
import type { TensorEntry } from "./checkpoint";
import { streamTensor } from "./read";

const numBins = 64;

/**
 * Statistics of one tensor, in bounded memory; reads it twice, since a histogram needs the range first. NaN and infinity
 * are counted (count - finite) and left out of everything else. The standard deviation is that of the population.
 * Quantised codes count as the numbers they stand for, without block scales. Without a finite element, minimum, maximum,
 * mean and deviation are 0.
 *
 * @throws RerouteError checkpoint/truncated, /changed, /not-found, cancelled
 */
export function statisticsOfTensor(entry: TensorEntry, signal?: AbortSignal): Promise<TensorStatistics> {
  return statisticsOfNumbers(entry.name, (add) =>
    streamTensor(entry, (bytes) => add(decodeNumbers(bytes, entry.dtype)), signal),
  );
}

/** Gives numbers in chunks, the same ones each time. */
type NumberStream = (add: (values: Float32Array | Float64Array) => void) => Promise<void>;

/** The same of numbers that are no tensor of a file. */
export async function statisticsOfNumbers(name: string, stream: NumberStream): Promise<TensorStatistics> {
  const moments = { count: 0, finite: 0, zeros: 0, min: Infinity, max: -Infinity, mean: 0, squares: 0 };
  await stream((values) => addChunk(moments, values));
  const { count, finite, zeros } = moments;
  const known = (value: number) => (finite > 0 ? value : 0);
  const histogram = await histogramOf(stream, known(moments.min), known(moments.max));
  return {
    name,
    count,
    finite,
    zeros,
    min: known(moments.min),
    max: known(moments.max),
    mean: known(moments.mean),
    standardDeviation: known(Math.sqrt(moments.squares / finite)),
    histogram,
  };
}

type Moments = Pick<TensorStatistics, "count" | "finite" | "zeros" | "min" | "max" | "mean"> & {
  /** Sum of squared deviations from the mean. */
  squares: number;
};

/** Chan, Golub and LeVeque (1979): moments of each chunk about its own mean, then joined, lose no digits to large sums. */
function addChunk(total: Moments, values: Float32Array | Float64Array): void {
  let finite = 0;
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) continue;
    finite++;
    sum += value;
    if (value === 0) total.zeros++;
    if (value < total.min) total.min = value;
    if (value > total.max) total.max = value;
  }
  total.count += values.length;
  if (finite === 0) return;
  const mean = sum / finite;
  let squares = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (Number.isFinite(value)) squares += (value - mean) ** 2;
  }
  const joined = total.finite + finite;
  const difference = mean - total.mean;
  total.squares += squares + (difference ** 2 * total.finite * finite) / joined;
  total.mean += (difference * finite) / joined;
  total.finite = joined;
}

/** Equal bins from min to max, the last one closed; where all values are equal, all are in the first. */
async function histogramOf(stream: NumberStream, min: number, max: number) {
  const counts = new Array<number>(numBins).fill(0);
  const scale = max > min ? numBins / (max - min) : 0;
  await stream((values) => {
    for (const value of values) {
      if (Number.isFinite(value)) counts[Math.min(numBins - 1, Math.floor((value - min) * scale))]!++;
    }
  });
  const edges = Array.from({ length: numBins + 1 }, (_, i) =>
    i === numBins ? max : min + ((max - min) * i) / numBins,
  );
  return { edges, counts };
}

/** As float32 where that is exact, else as float64. Chunks begin at a multiple of eight bytes. */
function decodeNumbers(bytes: Uint8Array, dtype: DType): Float32Array | Float64Array {
  const { buffer, byteOffset, byteLength } = bytes;
  switch (dtype) {
    case "F64":
      return new Float64Array(buffer, byteOffset, byteLength / 8);
    case "I64":
      return Float64Array.from(new BigInt64Array(buffer, byteOffset, byteLength / 8), Number);
    case "U64":
      return Float64Array.from(new BigUint64Array(buffer, byteOffset, byteLength / 8), Number);
    case "I32":
      return Float64Array.from(new Int32Array(buffer, byteOffset, byteLength / 4));
    case "U32":
      return Float64Array.from(new Uint32Array(buffer, byteOffset, byteLength / 4));
    default:
      return decodeFloats(bytes, dtype);
  }
}
