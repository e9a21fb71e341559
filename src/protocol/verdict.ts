/**
 * What calibration did to the distance to the teacher, judged on held-out text. "too little text": fewer units than a verdict
 * can rest on, whatever the numbers say.
 */
export const verdicts = ["recovered", "no gain", "worse", "too little text"] as const;
export type Verdict = (typeof verdicts)[number];

/** The verdict where it stands alone: one on text that was trained on says so. */
export function verdictWords(verdict: Verdict, trainedOn: number | null | undefined): string {
  return trainedOn ? `${verdict} on text that was trained on` : verdict;
}
