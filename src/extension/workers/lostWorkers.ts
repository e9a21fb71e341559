import { readFile } from "node:fs/promises";
import path from "node:path";
import { runFiles } from "../../protocol/run";
import { workersFile, type WorkerStatus } from "../../protocol/workers";

/** Workers that runs at work have lost, and that have not come back to the queue: it forgets them, their runs do not. */
export async function lostWorkers(
  runs: readonly { runDirectory: string }[],
  there: readonly Pick<WorkerStatus, "name">[],
): Promise<WorkerStatus[]> {
  const found = new Map<string, WorkerStatus>();
  for (const { runDirectory } of runs) {
    const text = await readFile(path.join(runDirectory, runFiles.workers), "utf8").catch(() => "null");
    for (const worker of statusOf(text)) if (worker.state === "lost") found.set(worker.name, worker);
  }
  for (const { name } of there) found.delete(name);
  return [...found.values()];
}

/** A file that is just being written is read the next time. */
function statusOf(text: string): WorkerStatus[] {
  try {
    const parsed = workersFile.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data.workers : [];
  } catch {
    return [];
  }
}
