import type { CalibrateOptions } from "../../../protocol/calibrateOptions";
import { openCheckpoint } from "../../checkpoint/open";
import type { TokenSequences } from "../../data/sequences";
import { MemoryHiddenStates } from "../../execution/hiddenStates";
import { ModelExecutor } from "../../execution/modelExecutor";
import { VocabularyHead } from "../../execution/vocabularyHead";
import type { ModelDescription } from "../../model/description";
import type { RuntimeOptions } from "../../runtime/session";
import type { ThreadWork } from "../../runtime/sideBySide/partThread";
import { lossAndGradients } from "../losses";

/** What a thread that makes gradients works with. */
export interface UpdateThreadData {
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

/** A part of a batch, or the whole. */
export interface LossOfPart {
  loss: number;
  gradients: Map<string, Float32Array>;
}

/** Loss and gradients of one part of a batch after another, by an executor of the thread's own. */
export const updateWork: ThreadWork = async (given) => {
  const data = given as UpdateThreadData;
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
  return (part) => workOn(executor, head, data, part as PartRequest);
};

async function workOn(
  executor: ModelExecutor,
  head: VocabularyHead,
  { options }: UpdateThreadData,
  { parameters, sequences, numTargets, draws }: PartRequest,
): Promise<LossOfPart> {
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
  return lossAndGradients(executor, head, batch, targets, options, undefined);
}
