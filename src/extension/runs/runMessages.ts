import type { ComparisonCell, ComparisonFile } from "../../protocol/compare";
import { editorWords } from "../editorWords";
import { formatNats } from "../quantities";
import { formatDuration } from "../../protocol/quantities";
import { verdictWords } from "../../protocol/verdict";
import type { Translate } from "../../protocol/translate";
import { overallProgress, type LiveRun } from "./liveRun";

/** One line for the notification and the status bar: stage, what it does, share, time left. */
export function progressLine(live: LiveRun, t: Translate): string {
  if (live.phase === "queued") return t("waiting for other work to end");
  if (live.phase === "cancelling") return t("cancelling");
  const { fraction, remainingSeconds } = overallProgress(live);
  const parts = [stageText(live, t)];
  if (live.cell) parts.unshift(t("cell {0} of {1}", live.cell.number, live.cell.total));
  if (fraction !== null) parts.push(`${Math.floor(fraction * 100)} %`);
  if (remainingSeconds !== null && remainingSeconds >= 0.5)
    parts.push(t("about {0} left", formatDuration(remainingSeconds)));
  return parts.join(" · ");
}

/** A stage that has not reported yet is at least named. */
function stageText({ progress, run }: LiveRun, t: Translate): string {
  if (progress) return `${progress.stage}: ${progress.message}`;
  return run?.stages.find(({ state }) => state === "running")?.id ?? t("starting");
}

/** What a finished run says: the verdict in its own words, with the figures it rests on. */
export function outcomeLine(live: LiveRun, t: Translate): string {
  if (live.comparison) return comparisonLine(live.name, live.comparison, t);
  const comparison = live.outcome?.evaluation?.comparison;
  if (!comparison) return t("{0} is done", live.name);
  const metric = comparison.metric === "klToTeacher" ? t("KL to the teacher") : t("loss");
  return t(
    "{0}: {1}. {2} {3} before, {4} after (nats a token)",
    live.name,
    verdictWords(comparison.verdict, comparison.trainedOn),
    metric,
    formatNats(comparison.before),
    formatNats(comparison.after),
  );
}

/** What a finished run or comparison says and offers, the most telling panel first. */
export function endOf(
  live: LiveRun,
  t: Translate,
): { title: string; isWarning: boolean; offers: { label: string; command: string }[] } {
  const title = outcomeLine(live, t);
  const report = { label: t("Open Report"), command: "reroute.openReport" };
  if (live.comparison) {
    const tradeOff = { label: t("Open Trade-off"), command: "reroute.openTradeOff" };
    const isWarning = live.comparison.cells.some(({ state }) => state === "failed");
    const again = isWarning ? [{ label: t("Try Failed Cells Again"), command: "reroute.resumeRun" }] : [];
    return { title, isWarning, offers: [tradeOff, report, ...again] };
  }
  const evaluation = live.outcome?.evaluation ?? null;
  // A profile alone is about routing; what calibration made worse does not look like success.
  const panel = evaluation
    ? { label: t("Open Divergence"), command: "reroute.openDivergence" }
    : { label: t("Open Routing"), command: "reroute.openRouting" };
  return {
    title,
    isWarning: evaluation?.comparison?.verdict === "worse",
    offers: evaluation ? [report, panel] : [panel, report],
  };
}

/** How many cells were compared, and which of them is nearest to the teacher. */
function comparisonLine(name: string, { cells }: ComparisonFile, t: Translate): string {
  const failed = cells.filter(({ state }) => state === "failed");
  if (failed[0]?.error) {
    const { id, error } = failed[0];
    return t(
      "{0}: {1} of {2} cells failed, the first is {3}: {4} ({5})",
      name,
      failed.length,
      cells.length,
      id,
      editorWords(error.message, t),
      error.code,
    );
  }
  const kl = ({ before, after }: ComparisonCell) => (after ?? before)?.klToTeacher?.mean ?? Infinity;
  const best = cells.reduce((least, cell) => (kl(cell) < kl(least) ? cell : least), cells[0]!);
  return t(
    "{0}: {1} cells compared. Nearest to the teacher: {2}, KL {3} nats a token",
    name,
    cells.length,
    best.id,
    formatNats(kl(best)),
  );
}
