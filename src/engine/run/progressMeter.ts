import type { Progress, ReportProgress } from "../../protocol/progress";

/** Seconds of history that the rate is measured over. */
const windowSeconds = 15;
const minIntervalMs = 200;

/**
 * Adds rate and remaining time to a stage's raw progress, and passes on a few reports a second at most; the last report
 * of a stage always passes. `now` is monotonic, in ms: clock changes do not matter.
 */
export function progressMeter(report: ReportProgress, now: () => number = () => performance.now()): ReportProgress {
  let current = "";
  let history: { at: number; done: number }[] = [];
  let lastReport = -Infinity;
  return (progress: Progress) => {
    const at = now();
    const key = `${progress.stage}|${progress.message}|${progress.total}`;
    if (key !== current || progress.done < (history.at(-1)?.done ?? 0)) {
      current = key;
      history = [];
      lastReport = -Infinity;
    }
    history.push({ at, done: progress.done });
    while (history.length > 2 && at - history[0]!.at > windowSeconds * 1000) history.shift();
    if (progress.done < progress.total && at - lastReport < minIntervalMs) return;
    lastReport = at;
    const first = history[0]!;
    const seconds = (at - first.at) / 1000;
    const rate = (progress.done - first.done) / seconds;
    const isKnown = seconds > 0 && rate > 0;
    report(isKnown ? { ...progress, rate, remainingSeconds: (progress.total - progress.done) / rate } : progress);
  };
}
