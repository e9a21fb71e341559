import { statSync } from "node:fs";
import path from "node:path";

/** evaluation.jsonl or evaluation.txt in the folder of the calibration text, where there is one. */
export function evaluationTextBeside(text: string): { path: string; bytes: number } | null {
  for (const name of ["evaluation.jsonl", "evaluation.txt"]) {
    const candidate = path.join(path.dirname(text), name);
    const bytes = statSync(candidate, { throwIfNoEntry: false })?.size;
    if (bytes !== undefined && candidate !== text) return { path: candidate, bytes };
  }
  return null;
}
