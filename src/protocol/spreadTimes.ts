import type { Preflight } from "./run";

type Stages = Preflight["stages"];

/**
 * Seconds of a run on n machines like the one that was measured, at best: parts go out in rounds of n, and what is not shared takes as
 * long as alone. The queue, the files and smaller batches come on top.
 */
export function spreadSeconds(stages: Stages, workers: number): number {
  return stages.reduce((sum, { seconds, spread = [] }) => {
    const saved = spread.map((share) => share.seconds * (1 - Math.ceil(share.parts / workers) / share.parts));
    return sum + seconds - saved.reduce((all, one) => all + one, 0);
  }, 0);
}

/** 1, 2, 4 and so on, up to the number from which more workers change nothing. */
export function workersWorthTrying(stages: Stages): number[] {
  const most = Math.max(1, ...stages.flatMap(({ spread = [] }) => spread.map(({ parts }) => parts)));
  const powers = Array.from({ length: Math.ceil(Math.log2(most)) }, (_, i) => 2 ** i);
  return [...powers, most];
}

/** Why a stage gains nothing from more workers; the share of a run's time with so many that it takes then. */
export interface SpreadLimit {
  stage: string;
  limit: string;
  share: number;
}

/** What holds a run up once it has as many workers as help, the longest first; what takes a twentieth or less is left out. */
export function spreadLimits(stages: Stages): SpreadLimit[] {
  const most = workersWorthTrying(stages).at(-1)!;
  const total = spreadSeconds(stages, most);
  const all = stages.map((stage) => {
    const { seconds, spread = [] } = stage;
    const left = spreadSeconds([stage], most);
    const alone = seconds - spread.reduce((sum, share) => sum + share.seconds, 0);
    return {
      stage: stage.stage,
      limit: [
        ...(alone > left / 2 ? ["this machine does most of it alone"] : []),
        ...spread.map(({ limit }) => limit),
      ].join("; "),
      share: total > 0 ? left / total : 0,
    };
  });
  return all.filter(({ share }) => share > 0.05).sort((a, b) => b.share - a.share);
}
