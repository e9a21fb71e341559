import { createHash } from "node:crypto";
import type { TokenSequences } from "../data/sequences";
import type { CalibrationOptions } from "./calibration";

/** Hash of everything that decides a calibration's result; a saved state of another hash is not continued. */
export function hashState({ student, teacher, training, heldOut, options, seed, runtime }: CalibrationOptions): string {
  const hash = createHash("sha256");
  hash.update(
    JSON.stringify([1, student.fingerprint, teacher.fingerprint, options, seed, runtime.threads, runtime.provider]),
  );
  addSequences(hash, training);
  if (heldOut !== null) addSequences(hash, heldOut);
  return hash.digest("hex");
}

function addSequences(hash: ReturnType<typeof createHash>, { ids, lengths, sequenceLength }: TokenSequences): void {
  hash.update(String(sequenceLength));
  for (const array of [ids, lengths]) hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
}
