import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { metricsLine, type MetricsLine } from "../../../protocol/metrics";
import { appendLine, writeFileAtomically } from "../../checkpoint/atomicFile";

/** Appends one line; a line that a crash cut short is ended first. */
export async function appendMetrics(filePath: string, line: MetricsLine): Promise<void> {
  await appendLine(filePath, JSON.stringify(line));
}

/**
 * Takes away what was written about updates after `step`: a killed calibration does them again from its last saved state.
 * -1 takes away the look at the held-out set before the first update, too. Lines that a crash cut short go as well.
 *
 * @throws RerouteError output/write-failed; the old file is whole then
 */
export async function rewindMetrics(filePath: string, step: number): Promise<void> {
  let text: string;
  try {
    text = await readFile(filePath, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const kept = text.split("\n").filter((line) => {
    const parsed = parseLine(line);
    return parsed !== null && (parsed.kind === "resources" || parsed.step <= step);
  });
  const rewound = kept.map((line) => `${line}\n`).join("");
  if (rewound !== text) await writeFileAtomically(filePath, rewound);
}

/**
 * Lines of metrics.jsonl. Of lines about the same step the last one counts. Lines that cannot be read are left out; a missing file has none.
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
