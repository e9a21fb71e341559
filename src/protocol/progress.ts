/** Progress of one pass of long work, reported at most a few times a second. */
export interface Progress {
  /** Stage id, e.g. "profile" or "calibrate". */
  stage: string;
  /** What is being done, in the user's words. */
  message: string;
  /** Units finished and units in all (tokens, updates or bytes: see `unit`). */
  done: number;
  total: number;
  unit: "tokens" | "updates" | "bytes" | "steps";
  /** Units a second over the recent past; absent before it is known. */
  rate?: number;
  /** Estimated seconds until this pass ends; absent before it is known. */
  remainingSeconds?: number;
  /** Which of a stage's passes of the same kind this is, from 1; absent where their number is not known. */
  pass?: { number: number; of: number };
  /**
   * Of the whole run: the share that is done, 0..1, which never falls within an attempt, and the seconds until its end, absent
   * where nothing was predicted.
   */
  run?: { share: number; remainingSeconds?: number };
}

export type ReportProgress = (progress: Progress) => void;
