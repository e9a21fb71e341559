import { RerouteError } from "../../protocol/errors";
import { byteLengthOf, type DType } from "../tensor/dtype";
import { bytesOf } from "../tensor/floatCodec";
import { writeFileAtomically } from "./atomicFile";
import { parseSafetensorsHeader } from "./header";
import { formatSafetensorsHeader, inFileOrder } from "./headerFormat";
import { maxWholeFileBytes } from "./limits";
import { quote } from "./quote";
import { readSmallFile } from "./smallFile";

/** A tensor in memory. `data` holds its stored bytes, as a typed array of any kind. */
export interface MemoryTensor {
  dtype: DType;
  shape: readonly number[];
  data: ArrayBufferView;
}

export interface SafetensorsFile {
  metadata: Record<string, string>;
  /** In file order. */
  tensors: Map<string, MemoryTensor & { shape: number[]; data: Uint8Array }>;
}

/**
 * Writes one whole safetensors file, atomically. Equal tensors and metadata give equal bytes, whatever their order.
 *
 * @throws RerouteError output/write-failed; internal where data and shape disagree
 */
export async function writeSafetensorsFile(
  filePath: string,
  tensors: ReadonlyMap<string, MemoryTensor>,
  metadata: Record<string, string> = {},
): Promise<void> {
  const ordered = inFileOrder([...tensors].map(([name, tensor]) => ({ name, ...tensor })));
  for (const { name, dtype, shape, data } of ordered) {
    const expected = byteLengthOf(dtype, shape);
    if (data.byteLength !== expected) {
      throw new RerouteError(
        "internal",
        `tensor ${quote(name)} for ${quote(filePath)} has ${data.byteLength} bytes, ${dtype} [${shape.join(", ")}] needs ${expected}`,
      );
    }
  }
  await writeFileAtomically(filePath, [
    formatSafetensorsHeader(ordered, metadata),
    ...ordered.map(({ data }) => bytesOf(data)),
  ]);
}

/**
 * Reads one whole safetensors file into memory: for files of a run folder, not for weights.
 *
 * @throws RerouteError checkpoint/not-found, /malformed, /truncated, /limit, /unsupported-dtype
 */
export async function readSafetensorsFile(filePath: string): Promise<SafetensorsFile> {
  const bytes = await readSmallFile(filePath, maxWholeFileBytes);
  const header = parseSafetensorsHeader(bytes, bytes.byteLength, filePath);
  return {
    metadata: header.metadata,
    tensors: new Map(
      header.tensors.map(({ name, dtype, shape, byteOffset, byteLength }) => [
        name,
        // Plain bytes, not a Buffer: its slice() is a view, which has surprised callers.
        { dtype, shape: [...shape], data: new Uint8Array(bytes.buffer, bytes.byteOffset + byteOffset, byteLength) },
      ]),
    ),
  };
}
