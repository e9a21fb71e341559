import type { TensorStatistics } from "../../protocol/checkpointSummary";
import { throwIfCancelled } from "../../protocol/errors";
import { elementCount } from "../tensor/dtype";
import type { TensorEntry } from "./checkpoint";
import { readFloat32 } from "./read";

/** Elements read at a time: 4 MiB of numbers, so that a tensor of any size needs no more memory than that. */
const chunkElements = 2 ** 20;
const bins = 64;

/**
 * Minimum, maximum, mean, standard deviation (over all elements, not n - 1), zeros and a histogram of a tensor, over
 * its finite values. Read twice in chunks, since the histogram needs the range first. Stored codes of quantised tensors
 * count as the numbers they stand for, without their block scales.
 * @throws RerouteError as readFloat32; cancelled
 */
export async function tensorStatistics(entry: TensorEntry, signal?: AbortSignal): Promise<TensorStatistics> {
  const moments = { count: 0, mean: 0, squares: 0, min: Infinity, max: -Infinity, zeros: 0 };
  await forEachChunk(entry, signal, (values) => addMoments(moments, values));
  const { count: finite, mean, squares, zeros } = moments;
  const [min, max] = finite > 0 ? [moments.min, moments.max] : [0, 0];
  const counts = new Array<number>(bins).fill(0);
  const width = (max - min) / bins;
  await forEachChunk(entry, signal, (values) => {
    for (const value of values) {
      if (!Number.isFinite(value)) continue;
      const bin = width > 0 ? Math.min(bins - 1, Math.floor((value - min) / width)) : 0;
      counts[bin]!++;
    }
  });
  return {
    name: entry.name,
    count: elementCount(entry.shape),
    finite,
    min,
    max,
    mean,
    standardDeviation: finite > 0 ? Math.sqrt(squares / finite) : 0,
    zeros,
    histogram: { edges: Array.from({ length: bins + 1 }, (_, edge) => min + edge * width), counts },
  };
}

/** Welford's update, exact enough for billions of elements of similar size. */
function addMoments(
  moments: { count: number; mean: number; squares: number; min: number; max: number; zeros: number },
  values: Float32Array,
): void {
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    moments.count++;
    const before = value - moments.mean;
    moments.mean += before / moments.count;
    moments.squares += before * (value - moments.mean);
    if (value < moments.min) moments.min = value;
    if (value > moments.max) moments.max = value;
    if (value === 0) moments.zeros++;
  }
}

async function forEachChunk(
  entry: TensorEntry,
  signal: AbortSignal | undefined,
  use: (values: Float32Array) => void,
): Promise<void> {
  const total = elementCount(entry.shape);
  for (let offset = 0; offset < total; offset += chunkElements) {
    throwIfCancelled(signal);
    use(await readFloat32(entry, { offset, count: Math.min(chunkElements, total - offset) }));
  }
}
