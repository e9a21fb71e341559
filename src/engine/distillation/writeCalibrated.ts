import { RerouteError } from "../../protocol/errors";
import type { Checkpoint, TensorEntry } from "../checkpoint/checkpoint";
import { copyTensor, type ByteSource, type TensorSource } from "../checkpoint/tensorSource";
import { dtypeBits, type DType } from "../tensor/dtype";
import { encodeFloats, type WritableFloat } from "../tensor/floatCodec";

/**
 * The student's tensors with the trained ones replaced: everything else is copied as raw bytes. Routers get the
 * checkpoint's dtype, rounded to nearest even, or stay f32.
 *
 * @param parameters trained weights by key: a tensor's name, or name@offset for a slice of a fused tensor
 * @param routers keys that `routerDtype` applies to
 */
export function calibratedTensors(
  student: Checkpoint,
  parameters: ReadonlyMap<string, Float32Array>,
  routers: ReadonlySet<string>,
  routerDtype: "checkpoint" | "float32",
): TensorSource[] {
  const replaced = new Map<string, { offset: number; values: Float32Array; key: string }[]>();
  for (const [key, values] of parameters) {
    const { tensor, offset } = parseKey(key, student);
    const slices = replaced.get(tensor) ?? [];
    slices.push({ offset, values, key });
    replaced.set(tensor, slices);
  }
  return [...student.tensors.values()].map((entry) => {
    const slices = replaced.get(entry.name);
    if (slices === undefined) return copyTensor(entry);
    const widen = routerDtype === "float32" && slices.every(({ key }) => routers.has(key));
    return replaceSlices(entry, slices, widen ? "F32" : writable(entry));
  });
}

function replaceSlices(
  entry: TensorEntry,
  slices: { offset: number; values: Float32Array }[],
  dtype: WritableFloat,
): TensorSource {
  const bytes = dtypeBits[entry.dtype] / 8;
  const parts: ByteSource[] = [];
  let position = 0;
  const copyUpTo = (end: number) => {
    if (end > position) {
      const byteLength = (end - position) * bytes;
      parts.push({ kind: "copy", entry, byteOffset: position * bytes, byteLength });
    }
  };
  for (const { offset, values } of [...slices].sort((a, b) => a.offset - b.offset)) {
    copyUpTo(offset);
    const byteLength = (values.length * dtypeBits[dtype]) / 8;
    parts.push({ kind: "bytes", byteLength, data: () => encodeFloats(values, dtype) });
    position = offset + values.length;
  }
  copyUpTo(entry.byteLength / bytes);
  return { name: entry.name, dtype, shape: entry.shape, parts };
}

function parseKey(key: string, { tensors }: Checkpoint): { tensor: string; offset: number } {
  if (tensors.has(key)) return { tensor: key, offset: 0 };
  const at = key.lastIndexOf("@");
  return { tensor: key.slice(0, at), offset: Number(key.slice(at + 1)) };
}

function writable({ name, dtype }: TensorEntry): WritableFloat {
  const known: Partial<Record<DType, WritableFloat>> = { F32: "F32", F16: "F16", BF16: "BF16", F64: "F64" };
  const result = known[dtype];
  if (result === undefined) {
    throw new RerouteError(
      "checkpoint/unsupported-dtype",
      `${name} is stored as ${dtype}, which trained weights are not written in`,
    );
  }
  return result;
}
