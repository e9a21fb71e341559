import { byteLengthOf, type DType } from "../tensor/dtype";

/** What a safetensors file says about itself. */
export interface SafetensorsHeader {
  metadata: Record<string, string>;
  /** By offset; a tensor without elements comes before the one that starts at the same byte. */
  tensors: HeaderTensor[];
}

export interface HeaderTensor {
  name: string;
  dtype: DType;
  /** Tensors of one shape share one array. */
  shape: readonly number[];
  /** First byte, counted from the file's start. */
  byteOffset: number;
  byteLength: number;
}

/** Bytes of the length field that a file begins with. */
export const lengthFieldBytes = 8;

/** A tensor to be written; its name must be unique in the file. */
export interface TensorLayout {
  name: string;
  dtype: DType;
  shape: readonly number[];
}

/**
 * dtypes in the order of the reference implementation, which writes tensors by falling dtype so that each begins at a
 * multiple of its element size: readers may then map it without copying.
 */
const writeOrder: DType[] = [
  "U64",
  "I64",
  "F64",
  "C64",
  "F32",
  "U32",
  "I32",
  "BF16",
  "F16",
  "U16",
  "I16",
  "F8_E5M2FNUZ",
  "F8_E4M3FNUZ",
  "F8_E8M0",
  "F8_E4M3",
  "F8_E5M2",
  "I8",
  "U8",
  "F6_E3M2",
  "F6_E2M3",
  "F4",
  "BOOL",
];

/** Tensors in the order in which a file holds them: by dtype, then by name (bytes of its UTF-8 form). */
export function inFileOrder<T extends TensorLayout>(tensors: Iterable<T>): T[] {
  return [...tensors].sort(
    (a, b) =>
      writeOrder.indexOf(a.dtype) - writeOrder.indexOf(b.dtype) ||
      Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
  );
}

/**
 * Length field and JSON header for tensors in the given order, byte for byte as the reference implementation writes
 * them: padded with spaces to a multiple of eight. Metadata keys are sorted (it leaves their order to chance).
 */
export function formatSafetensorsHeader(
  tensors: readonly TensorLayout[],
  metadata: Record<string, string>,
): Uint8Array {
  const parts: string[] = [];
  const keys = Object.keys(metadata).sort();
  if (keys.length > 0) {
    parts.push(
      `"__metadata__":{${keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`).join(",")}}`,
    );
  }
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    const end = offset + byteLengthOf(dtype, shape);
    parts.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(",")}],"data_offsets":[${offset},${end}]}`,
    );
    offset = end;
  }
  const json = Buffer.from(`{${parts.join(",")}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const header = Buffer.alloc(lengthFieldBytes + padded, 0x20);
  header.writeBigUInt64LE(BigInt(padded), 0);
  json.copy(header, lengthFieldBytes);
  return header;
}
