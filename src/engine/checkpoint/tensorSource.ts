import { RerouteError } from "../../protocol/errors";
import { byteLengthOf } from "../tensor/dtype";
import type { TensorEntry } from "./checkpoint";
import type { TensorLayout } from "./headerFormat";
import { quote } from "./quote";

/** A tensor to be written, as the parts that its bytes consist of, in order. */
export interface TensorSource extends TensorLayout {
  parts: ByteSource[];
}

export type ByteSource =
  /** `byteLength` bytes of a stored tensor, from its byte `byteOffset` on, as they are. */
  | { kind: "copy"; entry: TensorEntry; byteOffset: number; byteLength: number }
  /** Bytes made when their turn comes; the memory may be used again at the next call. */
  | { kind: "bytes"; byteLength: number; data: () => Uint8Array | Promise<Uint8Array> };

/** A stored tensor unchanged, under its own or another name. */
export function copyTensor(entry: TensorEntry, name: string = entry.name): TensorSource {
  const { dtype, shape, byteLength } = entry;
  return { name, dtype, shape, parts: [{ kind: "copy", entry, byteOffset: 0, byteLength }] };
}

/**
 * Some rows (indices of the first axis) of a stored tensor, in the given order: router rows or fused experts kept.
 *
 * @throws RerouteError plan/invalid for a row that the tensor does not have
 */
export function copyRows(entry: TensorEntry, rows: readonly number[], name: string = entry.name): TensorSource {
  const [numRows = 0, ...rest] = entry.shape;
  const rowBytes = byteLengthOf(entry.dtype, rest);
  const parts = rows.map((row): ByteSource => {
    if (!Number.isInteger(row) || row < 0 || row >= numRows || !Number.isInteger(rowBytes)) {
      throw new RerouteError(
        "plan/invalid",
        `row ${row} of tensor ${quote(entry.name)} was asked for, its shape is ${entry.dtype} [${entry.shape.join(", ")}]`,
      );
    }
    return { kind: "copy", entry, byteOffset: row * rowBytes, byteLength: rowBytes };
  });
  return { name, dtype: entry.dtype, shape: [rows.length, ...rest], parts };
}

/** A tensor made in memory when its turn comes. */
export function tensorFromBytes(layout: TensorLayout, data: () => Uint8Array | Promise<Uint8Array>): TensorSource {
  const byteLength = byteLengthOf(layout.dtype, layout.shape);
  return { ...layout, parts: [{ kind: "bytes", byteLength, data }] };
}

/**
 * Refuses what would give a broken file: a name used twice, parts that do not add up to the shape, a range outside its
 * tensor. All are defects of the caller.
 */
export function checkSources(tensors: readonly TensorSource[]): void {
  const names = new Set<string>();
  for (const { name, dtype, shape, parts } of tensors) {
    const fail = (problem: string): never => {
      throw new RerouteError("internal", `cannot write tensor ${quote(name)}: ${problem}`);
    };
    if (names.has(name) || name === "__metadata__") fail("its name occurs twice or is reserved");
    names.add(name);
    for (const part of parts) {
      if (
        part.kind === "copy" &&
        !(part.byteOffset >= 0 && part.byteOffset + part.byteLength <= part.entry.byteLength)
      ) {
        fail(
          `bytes ${part.byteOffset} to ${part.byteOffset + part.byteLength} of ${quote(part.entry.name)} do not exist`,
        );
      }
    }
    const found = parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const expected = byteLengthOf(dtype, shape);
    if (found !== expected) fail(`its parts have ${found} bytes, ${dtype} [${shape.join(", ")}] needs ${expected}`);
  }
}
