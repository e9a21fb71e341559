import { statSync } from "node:fs";
import path from "node:path";
import { textExtensions } from "../../protocol/textFormats";

/** evaluation.jsonl, or of another kind that is read, in the folder of the calibration text, where there is one. */
export function evaluationTextBeside(text: string): { path: string; bytes: number } | null {
  for (const extension of ["jsonl", ...textExtensions]) {
    const candidate = path.join(path.dirname(text), `evaluation.${extension}`);
    const bytes = statSync(candidate, { throwIfNoEntry: false })?.size;
    if (bytes !== undefined && candidate !== text) return { path: candidate, bytes };
  }
  return null;
}
