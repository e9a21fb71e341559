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

  constructor(
    runDirectory: string,
    readonly kept = keptTimelineLines,
  ) {
    this.#file = path.join(runDirectory, runFiles.workersTimeline);
    this.#lines = textLines(this.#file).then(({ length }) => length);
  }

  append(line: TimelineLine): void {
    this.#last = this.#last.then(() => this.#append(line)).catch(() => undefined);
  }

  /** Resolves once everything that was appended is there. */
  written(): Promise<void> {
    return this.#last;
  }

  async #append(line: TimelineLine): Promise<void> {
    let count = await this.#lines;
    if (count >= 2 * this.kept) {
      const left = (await textLines(this.#file)).slice(-this.kept);
      await writeFileAtomically(this.#file, left.map((text) => `${text}\n`).join(""));
      count = left.length;
    }
    await appendLine(this.#file, JSON.stringify(line));
    this.#lines = Promise.resolve(count + 1);
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
