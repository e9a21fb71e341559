import { quote } from "../../checkpoint/quote";
import { invalidTrace } from "./traceCounts";
import { readZip } from "./zip";

/** An array of integers as NumPy saves it, with its dimensions. */
export interface IntegerArray {
  shape: number[];
  /** Row-major. */
  values: ArrayLike<number>;
}

/**
 * A .npy file of integers (numpy.lib.format, versions 1 to 3): magic, version, length of a Python dict with `descr`,
 * `fortran_order` and `shape`, then the data. The dict is matched, never evaluated; objects are not read.
 *
 * @throws RerouteError trace/invalid
 */
export function parseNpy(bytes: Uint8Array, name: string): IntegerArray {
  const fail = (problem: string): never => {
    throw invalidTrace(`${quote(name)} cannot be read as a NumPy array: ${problem}`);
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || Buffer.from(bytes.subarray(0, 6)).toString("latin1") !== "\x93NUMPY") {
    return fail("it does not begin with \\x93NUMPY");
  }
  const version = bytes[6]!;
  if (version < 1 || version > 3) return fail(`version ${version}, expected 1 to 3`);
  const lengthBytes = version === 1 ? 2 : 4;
  const headerStart = 8 + lengthBytes;
  const dataStart = headerStart + (version === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  if (dataStart > bytes.length) return fail("its header is cut");
  const header = Buffer.from(bytes.subarray(headerStart, dataStart)).toString("latin1");
  const type = /'descr':\s*'([^']{1,16})'/.exec(header)?.[1];
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const dims = /'shape':\s*\(([\d,\s]{0,200})\)/.exec(header)?.[1];
  if (type === undefined || order === undefined || dims === undefined) return fail("its header is not understood");
  if (order === "True") return fail("it is stored by columns; save it with numpy.ascontiguousarray");
  const shape = dims
    .split(",")
    .filter((part) => part.trim() !== "")
    .map(Number);
  const elements = shape.reduce((product, size) => product * size, 1);
  const read = integerReaders[type];
  if (!read) return fail(`it holds ${quote(type)}, expected integers (${Object.keys(integerReaders).join(", ")})`);
  const needed = elements * read.bytes;
  if (needed !== bytes.length - dataStart) {
    return fail(
      `shape (${shape.join(", ")}) of ${type} needs ${needed} bytes, the file has ${bytes.length - dataStart}`,
    );
  }
  return { shape, values: read.values(new Uint8Array(bytes.subarray(dataStart)).buffer) };
}

const integerReaders: Record<string, { bytes: number; values: (data: ArrayBuffer) => ArrayLike<number> } | undefined> =
  {
    "|u1": { bytes: 1, values: (data) => new Uint8Array(data) },
    "|i1": { bytes: 1, values: (data) => new Int8Array(data) },
    "<u2": { bytes: 2, values: (data) => new Uint16Array(data) },
    "<i2": { bytes: 2, values: (data) => new Int16Array(data) },
    "<u4": { bytes: 4, values: (data) => new Uint32Array(data) },
    "<i4": { bytes: 4, values: (data) => new Int32Array(data) },
    "<u8": { bytes: 8, values: (data) => Float64Array.from(new BigUint64Array(data), Number) },
    "<i8": { bytes: 8, values: (data) => Float64Array.from(new BigInt64Array(data), Number) },
  };

/**
 * Every array of a .npz file: a ZIP archive of .npy files, as numpy.savez and savez_compressed write it.
 *
 * @throws RerouteError trace/invalid
 */
export function parseNpz(bytes: Uint8Array, name: string): Map<string, IntegerArray> {
  const files = readZip(bytes, name, "NumPy archive", (entry) => entry.endsWith(".npy"));
  return new Map(
    [...files].map(([entry, data]) => [entry.slice(0, -".npy".length), parseNpy(data, `${name}/${entry}`)]),
  );
}
