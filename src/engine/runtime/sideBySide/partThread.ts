import { isMainThread, parentPort, workerData } from "node:worker_threads";

export const role = "reroute part thread";

/** What a thread works with; copied into it. */
export interface ThreadData {
  role: typeof role;
  /** A name in the program's table of work. */
  work: string;
  data: unknown;
}

export type ThreadReply = { kind: "ready" } | { kind: "done"; result: unknown } | { kind: "failed"; reason: string };

/** Opens what a thread needs; what it gives works on one part after another. */
export type ThreadWork = (data: unknown) => Promise<(part: unknown) => Promise<unknown>>;

/** Whether this is such a thread, where the program's own work is not to begin. */
export function isPartThread(): boolean {
  return !isMainThread && (workerData as { role?: unknown } | null)?.role === role;
}

/** Works on the parts that this thread is given. */
export async function servePartThread(table: Readonly<Record<string, ThreadWork>>): Promise<void> {
  const port = parentPort!;
  const reply = (message: ThreadReply) => port.postMessage(message);
  const { work, data } = workerData as ThreadData;
  const workOn = await table[work]!(data);
  port.on("message", (part: unknown) => {
    void workOn(part).then(
      (result) => reply({ kind: "done", result }),
      (error: unknown) => reply({ kind: "failed", reason: error instanceof Error ? error.message : String(error) }),
    );
  });
  reply({ kind: "ready" });
}
