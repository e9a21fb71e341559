import { formatDuration, formatRate } from "../protocol/quantities";
import type { Progress, ReportProgress } from "../protocol/progress";
import type { CliIo } from "./io";

/** Seconds between two lines where progress cannot redraw. */
const plainInterval = 10;
const barWidth = 24;

/** Progress on stderr: a bar with rate and remaining time on a terminal, a line now and then elsewhere. */
export function progressPrinter(
  io: CliIo,
  now: () => number = () => performance.now() / 1000,
): { report: ReportProgress; note: (text: string) => void; end: () => void } {
  let isOpen = false;
  let last = { key: "", at: -Infinity };
  const close = (): void => {
    if (isOpen) io.err("\n");
    isOpen = false;
  };
  return {
    report: (progress) => {
      const key = `${progress.stage} ${progress.message}`;
      const isNew = key !== last.key;
      const isEnd = progress.done >= progress.total;
      if (io.isTerminal) {
        if (isNew) close();
        io.err(`\r${bar(progress).slice(0, io.columns - 1)}\u001b[K`);
        isOpen = true;
      } else if (isNew || isEnd || now() - last.at >= plainInterval) {
        io.err(`${plain(progress)}\n`);
      } else return;
      last = { key, at: now() };
    },
    note: (text) => {
      close();
      io.err(`${text}\n`);
    },
    end: close,
  };
}

function bar(progress: Progress): string {
  const share = shareOf(progress);
  const filled = Math.round(share * barWidth);
  return `${progress.message.padEnd(28)} [${"#".repeat(filled)}${"-".repeat(barWidth - filled)}] ${percent(share)}${speed(progress)}`;
}

function plain(progress: Progress): string {
  return `${progress.stage}: ${progress.message}, ${percent(shareOf(progress))}${speed(progress)}`;
}

/** Of the whole run, which only rises; of the pass where there is no run. */
function shareOf({ run, done, total }: Progress): number {
  return run?.share ?? (total > 0 ? Math.min(1, done / total) : 0);
}

function percent(share: number): string {
  return `${String(Math.floor(share * 100)).padStart(3)} %`;
}

/** Rate of the pass, and what is left of that whose share is shown; of the pass, where nothing is known of a run's time. */
function speed({ rate, remainingSeconds, run, unit }: Progress): string {
  const isOfPass = run !== undefined && run.remainingSeconds === undefined;
  const left = run && !isOfPass ? run.remainingSeconds : remainingSeconds;
  return [
    rate === undefined ? "" : `, ${formatRate(rate, unit)}`,
    left === undefined || left < 0.5 ? "" : `, ${formatDuration(left)} left${isOfPass ? " of this pass" : ""}`,
  ].join("");
}
