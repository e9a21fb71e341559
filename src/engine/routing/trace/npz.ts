import { parseNpy, type IntegerArray } from "./npy";
import { readZip } from "./zip";

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
