import { readFile } from "node:fs/promises";
import path from "node:path";
import { runFiles } from "../../../protocol/run";
import {
  keptTimelineLines,
  timelineLine,
  workersFile,
  type RunWorkers,
  type TimelineLine,
} from "../../../protocol/workers";
import { appendLine, writeFileAtomically } from "../../checkpoint/atomicFile";

/** A run's timeline of tiles, workers.jsonl: appended to in order, and halved where it has grown too long. */
export class TimelineFile {
  readonly #file: string;
  #lines: Promise<number>;
  #last: Promise<void> = Promise.resolve();
  /** Lines for the next write: hundreds of workers end tiles while one is under way. */
  #next: string[] = [];

  constructor(
    runDirectory: string,
    readonly kept = keptTimelineLines,
  ) {
    this.#file = path.join(runDirectory, runFiles.workersTimeline);
    this.#lines = textLines(this.#file).then(({ length }) => length);
  }

  append(line: TimelineLine): void {
    this.#next.push(JSON.stringify(line));
    if (this.#next.length === 1) this.#last = this.#last.then(() => this.#write()).catch(() => undefined);
  }

  /** Resolves once everything that was appended is there. */
  written(): Promise<void> {
    return this.#last;
  }

  async #write(): Promise<void> {
    let count = await this.#lines;
    const lines = this.#next.splice(0, this.kept);
    // The write before this one took them along.
    if (lines.length === 0) return;
    if (count + lines.length > 2 * this.kept) {
      const left = (await textLines(this.#file)).slice(-this.kept);
      await writeFileAtomically(this.#file, left.map((text) => `${text}\n`).join(""));
      count = left.length;
    }
    await appendLine(this.#file, lines.join("\n"));
    this.#lines = Promise.resolve(count + lines.length);
    if (this.#next.length > 0) await this.#write();
  }
}

/** Status and timeline of a run whose work is or was spread; null for another. Lines that cannot be read are left out. */
export async function readRunWorkers(runDirectory: string): Promise<RunWorkers | null> {
  const text = await readFile(path.join(runDirectory, runFiles.workers), "utf8").catch(() => "null");
  const status = workersFile.safeParse(json(text));
  if (!status.success) return null;
  const lines = await textLines(path.join(runDirectory, runFiles.workersTimeline));
  const timeline = lines.flatMap((line) => {
    const parsed = timelineLine.safeParse(json(line));
    return parsed.success ? [parsed.data] : [];
  });
  return { status: status.data, timeline };
}

async function textLines(file: string): Promise<string[]> {
  const text = await readFile(file, "utf8").catch(() => "");
  return text.split("\n").filter((line) => line !== "");
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
