import type { EvaluationFile } from "../../protocol/evaluation";

/** Text made safe inside HTML, attributes included. Names in reports come from untrusted files. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"'`]/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** Text made safe inside a Markdown table cell or line. */
export function escapeMarkdown(text: string): string {
  return text.replace(/[\r\n]+/g, " ").replace(/[\\`*_{}[\]<>|#!~$&]/g, "\\$&");
}

/** A number that may be unknown, by one of the formats above; a dash where it is. */
export function formatOptional(value: number | null, format: (value: number) => string): string {
  return value === null ? "–" : format(value);
}

interface Estimate {
  mean: number;
  halfWidth95: number;
}

/** Half of the 95 % interval; null where there is none: nothing was measured, or no unit of text differs from another, as of one document. */
export function halfWidthOf(estimate: Estimate | null | undefined): number | null {
  return estimate && estimate.halfWidth95 > 0 ? estimate.halfWidth95 : null;
}

/** "0.2497 ± 0.0210"; the mean alone where there is no interval. */
export function formatEstimate(estimate: Estimate, format = (value: number): string => value.toFixed(4)): string {
  const half = halfWidthOf(estimate);
  return half === null ? format(estimate.mean) : `${format(estimate.mean)} ± ${format(half)}`;
}

/** What ± beside the numbers of an evaluation is, or why there is none. */
export function intervalNote({ data: { perSequence, sequences } }: Pick<EvaluationFile, "data">): string {
  const units = perSequence ? new Set(perSequence.units).size : sequences;
  return units > 1
    ? "± is half of the 95 % bootstrap interval over sequences, or over documents where one spans several."
    : "They are one document, so there is no interval.";
}
