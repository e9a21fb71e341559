import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { metricsLine, type MetricsLine } from "../../protocol/metrics";
import { appendLine } from "../checkpoint/atomicFile";

/** Appends one line; a line that a crash cut short is ended first. */
export async function appendMetrics(filePath: string, line: MetricsLine): Promise<void> {
  await appendLine(filePath, JSON.stringify(line));
}

/**
 * Lines of metrics.jsonl. A resumed run writes the updates after its last saved state again: of lines about the same
 * step the last one counts. Lines that cannot be read are left out; a missing file has none.
 */
export async function readMetrics(filePath: string): Promise<MetricsLine[]> {
  const bySubject = new Map<string, MetricsLine>();
  let other = 0;
  try {
    const lines = createInterface({ input: createReadStream(filePath, "utf8"), crlfDelay: Infinity });
    for await (const text of lines) {
      const line = parseLine(text);
      if (!line) continue;
      bySubject.set(line.kind === "resources" ? `resources ${other++}` : `${line.kind} ${line.step}`, line);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return [...bySubject.values()].sort((a, b) => stepOf(a) - stepOf(b));
}

function parseLine(text: string): MetricsLine | null {
  try {
    const parsed = metricsLine.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

function stepOf(line: MetricsLine): number {
  return line.kind === "resources" ? 0 : line.step;
}
