import { createHash } from "node:crypto";
import type { TokenSequences } from "../data/sequences";
import { matchesRouterLogits, type CalibrationOptions } from "./calibration";

/** Hash of everything that decides a calibration's result; a saved state of another hash is not continued. */
export function hashState(calibration: CalibrationOptions): string {
  const { student, teacher, training, heldOut, options, seed, runtime, expertMapping } = calibration;
  const hash = createHash("sha256");
  hash.update(
    JSON.stringify([1, student.fingerprint, teacher.fingerprint, options, seed, runtime.threads, runtime.provider]),
  );
  if (matchesRouterLogits(options)) hash.update(JSON.stringify(expertMapping ?? null));
  addSequences(hash, training);
  if (heldOut !== null) addSequences(hash, heldOut);
  return hash.digest("hex");
}

function addSequences(hash: ReturnType<typeof createHash>, { ids, lengths, sequenceLength }: TokenSequences): void {
  hash.update(String(sequenceLength));
  for (const array of [ids, lengths]) hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
}
