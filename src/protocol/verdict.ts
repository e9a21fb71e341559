/**
 * What calibration did to the distance to the teacher, judged on held-out text. "too little text": fewer units than a verdict
 * can rest on, whatever the numbers say.
 */
export const verdicts = ["recovered", "no gain", "worse", "too little text"] as const;
export type Verdict = (typeof verdicts)[number];
