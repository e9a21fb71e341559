import { RerouteError } from "../../protocol/errors";
import { isFloat, type DType } from "../tensor/dtype";
import { float8E4M3Values, float8E5M2Values, float8E8M0Values } from "../tensor/float8";
import type { Checkpoint } from "./checkpoint";
import { quote } from "./quote";
import { streamTensor } from "./read";

export interface NonFiniteTensor {
  name: string;
  /** How many elements are NaN or infinite. */
  count: number;
  /** The first of them, in stored order. */
  firstElement: number;
}

/**
 * Looks for NaN and infinity among the stored floats of all tensors, or of those named. Reads every byte of them, in
 * bounded memory.
 *
 * @throws RerouteError checkpoint/missing-tensor, /truncated, /changed, /not-found, cancelled
 */
export async function scanForNonFinite(
  checkpoint: Checkpoint,
  names: Iterable<string> = checkpoint.tensors.keys(),
  signal?: AbortSignal,
): Promise<NonFiniteTensor[]> {
  const found: NonFiniteTensor[] = [];
  for (const name of names) {
    const entry = checkpoint.tensors.get(name);
    if (!entry) {
      throw new RerouteError(
        "checkpoint/missing-tensor",
        `${quote(checkpoint.directory)} has no tensor ${quote(name)}`,
      );
    }
    if (!isFloat(entry.dtype)) continue;
    let count = 0;
    let firstElement = -1;
    await streamTensor(
      entry,
      (bytes, start) => {
        const inChunk = countNonFinite(bytes, entry.dtype);
        if (count === 0 && inChunk.count > 0) firstElement = start + inChunk.first;
        count += inChunk.count;
      },
      signal,
    );
    if (count > 0) found.push({ name, count, firstElement });
  }
  return found;
}

/** All exponent bits set mean NaN or infinity; reading bits is several times faster than making numbers of them. */
function countNonFinite(bytes: Uint8Array, dtype: DType): { count: number; first: number } {
  switch (dtype) {
    case "BF16":
      return countMasked(new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2), 0x7f80);
    case "F16":
      return countMasked(new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2), 0x7c00);
    case "F32":
      return countMasked(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), 0x7f800000);
    case "F64":
      return countValues(new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8), Number.isFinite);
    case "F8_E4M3":
      return countValues(bytes, (code) => Number.isFinite(float8E4M3Values[code]));
    case "F8_E5M2":
      return countValues(bytes, (code) => Number.isFinite(float8E5M2Values[code]));
    case "F8_E8M0":
      return countValues(bytes, (code) => Number.isFinite(float8E8M0Values[code]));
    default:
      return { count: 0, first: -1 };
  }
}

function countMasked(codes: Uint16Array | Uint32Array, exponent: number): { count: number; first: number } {
  let count = 0;
  let first = -1;
  for (let i = 0; i < codes.length; i++) {
    if ((codes[i]! & exponent) !== exponent) continue;
    if (count++ === 0) first = i;
  }
  return { count, first };
}

function countValues(
  values: Uint8Array | Float64Array,
  isFinite: (value: number) => boolean,
): { count: number; first: number } {
  let count = 0;
  let first = -1;
  for (let i = 0; i < values.length; i++) {
    if (isFinite(values[i]!)) continue;
    if (count++ === 0) first = i;
  }
  return { count, first };
}
