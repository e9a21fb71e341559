import { createHash } from "node:crypto";

/**
 * The one rule by which results are found again: SHA-256, as hex, of everything that decides a result. Stages of a run,
 * saved states, the teacher's targets and what the cells of a comparison share are all named by it. What was read is hashed
 * itself (fingerprints of checkpoints, ids and lengths of the sequences), not the files that it was made from.
 *
 * @param value JSON, in which typed arrays stand for their bytes; the order of an object's keys does not count
 */
export function contentKey(value: unknown): string {
  return createHash("sha256").update(canonicalJson(value)).digest("hex");
}

/** JSON without white space and with sorted keys. Members that are undefined are left out; a typed array is its SHA-256. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (ArrayBuffer.isView(value)) return `"${hashBytes(value)}"`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`).join(",")}}`;
  }
  // Infinity and NaN, which a config.json may hold, are not all "null".
  return typeof value === "number" ? String(value) : (JSON.stringify(value) ?? "null");
}

function hashBytes({ buffer, byteOffset, byteLength }: ArrayBufferView): string {
  return createHash("sha256")
    .update(new Uint8Array(buffer, byteOffset, byteLength))
    .digest("hex");
}
