/** What one clock of a run was told, kept as a small file and told again to another clock. */
import { RunShare, type ExpectedStage } from "../../../src/engine/run/runShare";
import type { Progress } from "../../../src/protocol/progress";

type Pass = Pick<Progress, "stage" | "message" | "total" | "unit" | "pass">;

/** Times are in seconds since the first stage began. */
export interface Recording {
  expected: readonly ExpectedStage[];
  passes: Pass[];
  /** In order: a stage that begins or ends, a part that is left out, or how far a pass is. */
  told: (["begin" | "end", number, string, number] | ["leaveOut", number, string] | [number, number, number])[];
  /** When all of it had ended. */
  seconds: number;
}

/** The clock's methods as values, which may be put in each other's place. */
interface Methods {
  begin: (this: RunShare, id: string, seconds: number) => void;
  end: (this: RunShare, id: string, took: number) => void;
  leaveOut: (this: RunShare, part: string) => void;
  behind: (this: RunShare, progress: Progress) => NonNullable<Progress["run"]>;
}

/** Records the clock that tells most while `work` is done: a comparison's cells have none of their own. */
export async function recorded(work: () => Promise<unknown>): Promise<Recording> {
  const methods = RunShare.prototype as unknown as Methods;
  const { begin, end, behind, leaveOut } = methods;
  const recordings = new Map<RunShare, { began: number; recording: Recording }>();
  const of = (share: RunShare) => {
    const known = recordings.get(share);
    if (known) return known;
    const fresh = {
      began: share.now(),
      recording: { expected: share.expected, passes: [], told: [], seconds: 0 },
    };
    recordings.set(share, fresh);
    return fresh;
  };
  const tell = (share: RunShare, what: (at: number, recording: Recording) => Recording["told"][number]) => {
    const { began, recording } = of(share);
    const at = rounded(share.now() - began);
    recording.told.push(what(at, recording));
    recording.seconds = at;
  };
  Object.assign(methods, {
    begin(this: RunShare, id: string, seconds: number) {
      tell(this, (at) => ["begin", at, id, rounded(seconds)]);
      begin.call(this, id, seconds);
    },
    end(this: RunShare, id: string, took: number) {
      tell(this, (at) => ["end", at, id, rounded(took)]);
      end.call(this, id, took);
    },
    leaveOut(this: RunShare, part: string) {
      tell(this, (at) => ["leaveOut", at, part]);
      leaveOut.call(this, part);
    },
    behind(this: RunShare, progress: Progress) {
      const { stage, message, total, unit, pass } = progress;
      const own = { stage, message, total, unit, ...(pass ? { pass } : {}) };
      tell(this, (at, { passes }) => {
        const index = passes.findIndex((known) => JSON.stringify(known) === JSON.stringify(own));
        return [index < 0 ? passes.push(own) - 1 : index, at, progress.done];
      });
      return behind.call(this, progress);
    },
  });
  try {
    await work();
  } finally {
    Object.assign(methods, { begin, end, behind, leaveOut });
  }
  const all = [...recordings.values()].map(({ recording }) => recording);
  return all.reduce((most, one) => (one.told.length > most.told.length ? one : most));
}

/** Share and seconds left behind every report of a recording, as they are counted now. */
export function replayed({ expected, passes, told }: Recording): { at: number; share: number; left: number | null }[] {
  let now = 0;
  const share = new RunShare(expected, () => now);
  const reports: ReturnType<typeof replayed> = [];
  for (const [what, at, ...rest] of told) {
    now = at;
    if (what === "begin" || what === "end") share[what](...(rest as [string, number]));
    else if (what === "leaveOut") share.leaveOut(String(rest[0]));
    else {
      const run = share.behind({ ...passes[what]!, done: Number(rest[0]) });
      reports.push({ at, share: run.share, left: run.remainingSeconds ?? null });
    }
  }
  return reports;
}

function rounded(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
