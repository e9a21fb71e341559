import { readFileSync, statSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import path from "node:path";
import { metricsLine, type MetricsLine } from "../../protocol/metrics";
import type { RunSummary } from "../../protocol/panels";
import type { Progress } from "../../protocol/progress";
import { runFiles } from "../../protocol/run";
import { comparisonOf } from "./comparisonFolders";
import type { RunTracker } from "./runTracker";
import { isLocked } from "./unfinishedRuns";

/** Milliseconds between two looks at the files of a run that another process works on. */
const lookEveryMs = 1000;

/** More of a metrics file than this is not read at once. */
const maxBytesAtOnce = 2 ** 20;

type Listed = Pick<RunSummary, "directory" | "name"> & { state: string };

interface Followed {
  /** Bytes of metrics.jsonl that were read, up to the end of a line. */
  read: number;
  looking: boolean;
}

/**
 * Looks on while another process (a window, the command line, an agent) works on runs of this workspace: progress and metrics come
 * from the run folder, so that they are shown as those of this window's own runs are.
 */
export class RunFollower {
  private readonly followed = new Map<string, Followed>();
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly tracker: Pick<RunTracker, "follow" | "observed" | "unfollow" | "isOwn">,
    private readonly everyMs = lookEveryMs,
  ) {}

  /** Runs and comparisons as they were just listed; a comparison's progress is that of the cell it works on. */
  watch({ runs, comparisons }: Record<"runs" | "comparisons", readonly Listed[]>): void {
    const single = runs.filter(({ directory }) => comparisonOf(directory) === null);
    for (const { directory, name, state } of [...comparisons, ...single]) {
      if (state !== "running" || this.followed.has(directory)) continue;
      if (this.tracker.isOwn(directory) || !isWorkedOn(directory)) continue;
      // What the file holds now is told as a whole; lines after that one by one.
      this.followed.set(directory, { read: sizeOf(path.join(directory, runFiles.metrics)), looking: false });
      this.tracker.follow(directory, name);
    }
    if (this.followed.size > 0) this.timer ??= setInterval(() => this.look(), this.everyMs);
  }

  dispose(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.followed.clear();
  }

  private look(): void {
    for (const [directory, followed] of this.followed) {
      if (!isWorkedOn(directory) || this.tracker.isOwn(directory)) {
        this.followed.delete(directory);
        this.tracker.unfollow(directory);
        continue;
      }
      const progress = progressOf(directory);
      if (progress) this.tracker.observed(directory, { type: "progress", progress });
      if (!followed.looking) void this.readMetrics(directory, followed);
    }
    if (this.followed.size === 0) this.dispose();
  }

  private async readMetrics(directory: string, followed: Followed): Promise<void> {
    followed.looking = true;
    try {
      const { lines, end } = await linesBehind(path.join(directory, runFiles.metrics), followed.read);
      followed.read = end;
      for (const line of lines) this.tracker.observed(directory, { type: "metrics", line });
    } catch {
      // The file may be about to be written anew; the next look reads it.
    } finally {
      followed.looking = false;
    }
  }
}

/** What a run's metrics file holds; nothing where there is none. */
export async function metricsSoFar(runDirectory: string): Promise<MetricsLine[]> {
  const text = await readFile(path.join(runDirectory, runFiles.metrics), "utf8").catch(() => "");
  return text.split("\n").flatMap(parsed);
}

function isWorkedOn(directory: string): boolean {
  return isLocked(path.join(directory, runFiles.lock));
}

/** Written anew every second, so it may be half there: the next look reads it whole. */
function progressOf(directory: string): Progress | null {
  try {
    return JSON.parse(readFileSync(path.join(directory, runFiles.progress), "utf8")) as Progress;
  } catch {
    return null;
  }
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

/** Whole lines behind a position. A file that has become shorter was rewound by a resumed run: it is read from its end on. */
async function linesBehind(file: string, position: number): Promise<{ lines: MetricsLine[]; end: number }> {
  const handle = await open(file, "r");
  try {
    const { size } = await handle.stat();
    if (size <= position) return { lines: [], end: size };
    const bytes = Buffer.alloc(Math.min(size - position, maxBytesAtOnce));
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, position);
    const whole = bytes.subarray(0, bytesRead).lastIndexOf(0x0a) + 1;
    return { lines: bytes.subarray(0, whole).toString("utf8").split("\n").flatMap(parsed), end: position + whole };
  } finally {
    await handle.close();
  }
}

function parsed(text: string): MetricsLine[] {
  if (text === "") return [];
  try {
    const line = metricsLine.safeParse(JSON.parse(text));
    return line.success ? [line.data] : [];
  } catch {
    return [];
  }
}
