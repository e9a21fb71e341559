/** Progress of one stage of long work, reported at most a few times a second. */
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
  /** Estimated seconds until this stage ends; absent before it is known. */
  remainingSeconds?: number;
}

export type ReportProgress = (progress: Progress) => void;
