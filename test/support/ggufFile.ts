/** Writes small GGUF files by hand, right ones and wrong ones. */

export interface GgufParts {
  magic?: string;
  version?: number;
  /** Counts that the header claims; those of the lists by default. */
  claimedTensors?: bigint;
  claimedKeys?: bigint;
  metadata?: readonly (readonly [key: string, value: GgufWritable])[];
  tensors?: readonly GgufTensorParts[];
  alignment?: number;
  /** Cuts the file after so many bytes. */
  cutAt?: number;
}

export interface GgufTensorParts {
  name: string;
  /** ggml type number. */
  type: number;
  /** Row-major; written fastest axis first. */
  shape: readonly (number | bigint)[];
  data: Uint8Array;
  /** Instead of the next free aligned place. */
  offset?: number;
}

export type GgufWritable =
  | { uint32: number }
  | { string: string }
  | { strings: readonly string[] }
  | { bool: boolean }
  /** Value type number and bytes, as they are. */
  | { type: number; bytes: Uint8Array };

export function ggufBytes(parts: GgufParts): Buffer {
  const { metadata = [], tensors = [], alignment = 32 } = parts;
  const placed: { tensor: GgufTensorParts; offset: number }[] = [];
  let end = 0;
  for (const tensor of tensors) {
    const offset = tensor.offset ?? Math.ceil(end / alignment) * alignment;
    placed.push({ tensor, offset });
    end = Math.max(end, offset + tensor.data.length);
  }
  const header = Buffer.concat([
    Buffer.from(parts.magic ?? "GGUF"),
    u32(parts.version ?? 3),
    u64(parts.claimedTensors ?? BigInt(tensors.length)),
    u64(parts.claimedKeys ?? BigInt(metadata.length)),
    ...metadata.map(([key, value]) => Buffer.concat([text(key), valueBytes(value)])),
    ...placed.map(({ tensor: { name, type, shape }, offset }) =>
      Buffer.concat([
        text(name),
        u32(shape.length),
        ...[...shape].reverse().map((size) => u64(BigInt(size))),
        u32(type),
        u64(BigInt(offset)),
      ]),
    ),
  ]);
  const dataStart = Math.ceil(header.length / alignment) * alignment;
  const file = Buffer.alloc(dataStart + end);
  header.copy(file);
  for (const { tensor, offset } of placed) file.set(tensor.data, dataStart + offset);
  return file.subarray(0, parts.cutAt ?? file.length);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

export function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(BigInt(bytes.length)), bytes]);
}

export function floats(...values: number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

function valueBytes(value: GgufWritable): Buffer {
  if ("uint32" in value) return Buffer.concat([u32(4), u32(value.uint32)]);
  if ("string" in value) return Buffer.concat([u32(8), text(value.string)]);
  if ("bool" in value) return Buffer.concat([u32(7), Buffer.from([value.bool ? 1 : 0])]);
  if ("strings" in value) {
    return Buffer.concat([u32(9), u32(8), u64(BigInt(value.strings.length)), ...value.strings.map(text)]);
  }
  return Buffer.concat([u32(value.type), value.bytes]);
}
