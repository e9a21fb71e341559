import { isMainThread, parentPort, workerData } from "node:worker_threads";
import type { CalibrateOptions } from "../../../protocol/recipe";
import { openCheckpoint } from "../../checkpoint/open";
import type { TokenSequences } from "../../data/sequences";
import { MemoryHiddenStates } from "../../execution/hiddenStates";
import { ModelExecutor } from "../../execution/modelExecutor";
import { VocabularyHead } from "../../execution/vocabularyHead";
import type { ModelDescription } from "../../model/description";
import type { RuntimeOptions } from "../../runtime/session";
import { lossAndGradients } from "../losses";

/** What a thread works with; copied into it. */
export interface UpdateThreadData {
  role: typeof role;
  student: { directory: string; description: ModelDescription };
  teacher: { directory: string; description: ModelDescription };
  sharedHead: boolean;
  trainable: ReadonlySet<string>;
  sequenceLength: number;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  options: CalibrateOptions;
}

/** A part of a batch. */
export interface PartRequest {
  parameters: ReadonlyMap<string, Float32Array>;
  sequences: TokenSequences;
  numTargets: number;
  /** The teacher's hidden states of these sequences, a draw each; null where it has no part in the loss. */
  draws: Float32Array[] | null;
}

export type PartReply =
  | { kind: "ready" }
  | { kind: "done"; loss: number; gradients: Map<string, Float32Array> }
  | { kind: "failed"; reason: string };

export const role = "reroute update thread";

/** Whether this is such a thread, where the program's own work is not to begin. */
export function isUpdateThread(): boolean {
  return !isMainThread && (workerData as { role?: unknown } | null)?.role === role;
}

/** Loss and gradients of one part of a batch after another, by an executor of the thread's own. */
export async function serveUpdateThread(): Promise<void> {
  const port = parentPort!;
  const reply = (message: PartReply) => port.postMessage(message);
  const data = workerData as UpdateThreadData;
  const open = async ({ directory, description }: UpdateThreadData["student"]) => ({
    checkpoint: await openCheckpoint(directory),
    description,
  });
  const [student, teacher] = [await open(data.student), await open(data.teacher)];
  const executor = await ModelExecutor.open({ ...data, ...student, direction: "backward" });
  const head = new VocabularyHead(
    { ...student, trainable: data.trainable },
    executor.sessions,
    executor.plan.headPositions,
    { source: teacher, sharedHead: data.sharedHead },
    executor.trained,
  );
  port.on("message", (request: PartRequest) => {
    void workOn(executor, head, data, request).then(reply, (error: unknown) =>
      reply({ kind: "failed", reason: error instanceof Error ? error.message : String(error) }),
    );
  });
  reply({ kind: "ready" });
}

async function workOn(
  executor: ModelExecutor,
  head: VocabularyHead,
  { options }: UpdateThreadData,
  { parameters, sequences, numTargets, draws }: PartRequest,
): Promise<PartReply> {
  for (const [key, values] of parameters) executor.parameters.set(key, values);
  const tokens = sequences.ids.length;
  const targets = draws && {
    routerLogits: null,
    draws: draws.map((rows) => ({
      read: () => {
        const hidden = new MemoryHiddenStates(tokens, rows.length / tokens);
        hidden.write(0, rows);
        return Promise.resolve(hidden);
      },
    })),
  };
  const batch = { sequences, numbers: Array.from({ length: sequences.numSequences }, (_, i) => i), numTargets };
  return { kind: "done", ...(await lossAndGradients(executor, head, batch, targets, options, undefined)) };
}
