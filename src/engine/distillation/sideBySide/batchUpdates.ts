import { throwIfCancelled } from "../../../protocol/errors";
import { sliceSequences } from "../../data/sequences";
import { nextTokens } from "../../execution/batches";
import type { HeadSource } from "../../execution/headGraphs";
import type { ModelExecutor } from "../../execution/modelExecutor";
import type { VocabularyHead } from "../../execution/vocabularyHead";
import type { CalibrateOptions } from "../../../protocol/calibrateOptions";
import { lossAndGradients, type LossBatch } from "../losses";
import type { MatchingTeacher } from "../match/matchingTeacher";
import type { TrainingTargets } from "../targets";
import { FasterWay, type Way } from "../../runtime/sideBySide/fasterWay";
import { budgetOfThread, canHaveThreads, PartThreads } from "../../runtime/sideBySide/partThreads";
import { threadsThatFit } from "../../execution/sideBySide/threadsThatFit";
import { addNamed, TreeFold } from "../../tensor/treeFold";
import type { LossOfPart, PartRequest, UpdateThreadData } from "./updateWork";

type UpdateThreads = PartThreads<UpdateThreadData, PartRequest, LossOfPart>;

export interface BatchUpdatesOptions {
  executor: ModelExecutor;
  head: VocabularyHead;
  teacher: HeadSource;
  options: CalibrateOptions;
  /** Always one way, instead of the faster one; for tests. */
  way?: Way;
}

/**
 * Loss and gradients of batches. Graphs of small models are too small for threads inside them: where routers train, parts of a
 * batch may go to executors of one thread each, side by side, whichever is faster now. Sums are cut at sequences and
 * added in one tree, so that the bytes are the same.
 */
export class BatchUpdates {
  readonly #threads: UpdateThreads | null;
  readonly #faster = new FasterWay();
  /** Updates that several executors have done. */
  sideBySideUpdates = 0;

  constructor(readonly of: BatchUpdatesOptions) {
    this.#threads = openThreads(of);
  }

  async lossAndGradients(
    batch: LossBatch,
    taught: TrainingTargets | null,
    matching: MatchingTeacher | null,
    signal: AbortSignal | undefined,
  ): ReturnType<typeof lossAndGradients> {
    const { executor, head, options } = this.of;
    const alone = () => lossAndGradients(executor, head, batch, taught, options, signal, matching);
    if (this.#threads === null || matching !== null || batch.sequences.numSequences < 2) return alone();
    const way = this.#threads.isReady ? (this.of.way ?? this.#faster.next(true)) : "one";
    const started = performance.now();
    const found = way === "several" ? await this.#sideBySide(batch, taught) : null;
    if (found !== null) this.sideBySideUpdates++;
    throwIfCancelled(signal);
    // What goes wrong in a thread goes wrong here too, where it has its own error.
    const result = found ?? (await alone());
    this.#faster.note(way, (performance.now() - started) / batch.sequences.ids.length);
    return result;
  }

  /** Resolves once threads are open; for tests. */
  async ready(): Promise<void> {
    while (this.#threads !== null && !this.#threads.isReady) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  async close(): Promise<void> {
    await this.#threads?.close();
  }

  async #sideBySide({ sequences, numbers }: LossBatch, taught: TrainingTargets | null) {
    const { executor } = this.of;
    const numTargets = nextTokens(sequences).isTarget.reduce((sum, one) => sum + one, 0);
    const all = Array.from(numbers);
    const parts = await Promise.all(
      treeParts(sequences.numSequences, this.#threads!.count).map(async ([from, to]) => {
        const draws = taught && (await Promise.all(taught.draws.map((draw) => draw.read(all.slice(from, to)))));
        return {
          ...{ parameters: executor.parameters, sequences: sliceSequences(sequences, from, to), numTargets },
          draws: draws && draws.map((hidden) => hidden.read(0, hidden.numTokens)),
        };
      }),
    );
    const found = await Promise.all(parts.map((part, i) => this.#threads!.ask(i, part)));
    if (found.includes(null)) return null;
    const tree = new TreeFold<LossOfPart>((left, right) => ({
      loss: left.loss + right.loss,
      gradients: addNamed(left.gradients, right.gradients),
    }));
    found.forEach((part, i) => tree.add(part!, parts[i]!.sequences.numSequences));
    return tree.take();
  }
}

/** Sequences of a part where a batch is cut for up to `most` threads, so that parts are nodes of the tree over its sequences. */
export function partSequences(batch: number, most: number): number {
  let size = 1;
  while (Math.ceil(batch / size) > most) size *= 2;
  return size;
}

/** Where [0, count) is cut for up to `most` threads: [from, to) each. */
function treeParts(count: number, most: number): [number, number][] {
  const size = partSequences(count, most);
  return Array.from({ length: Math.ceil(count / size) }, (_, i) => [i * size, Math.min(count, (i + 1) * size)]);
}

/** What trains in parts: routers, by losses that need no more than hidden states of the teacher. */
export function trainsByParts({ scope, loss }: Pick<CalibrateOptions, "scope" | "loss">): boolean {
  return scope === "router" && loss !== "router-logits";
}

/** The threads of updates; null where models are too large for any, or what trains is not summed over parts. */
function openThreads({ executor, head, teacher, options }: BatchUpdatesOptions): UpdateThreads | null {
  const { checkpoint, description, sequenceLength, runtime, scratchDirectory } = executor.options;
  if (runtime.provider !== "cpu" || !canHaveThreads() || !trainsByParts(options)) return null;
  const work = { description, sequenceLength, direction: "backward" as const };
  const { count } = threadsThatFit({ ...work, sequences: partSequences(options.batch, runtime.threads) }, runtime);
  if (count === 0) return null;
  const of = (source: HeadSource) => ({ directory: source.checkpoint.directory, description: source.description });
  const memoryBudgetBytes = budgetOfThread(count, runtime.memoryBudgetBytes);
  return new PartThreads(count, "updates", {
    ...{
      student: of({ checkpoint, description }),
      teacher: of(teacher),
      sharedHead: head.teacher?.sharedHead ?? false,
    },
    ...{ trainable: new Set(executor.parameters.keys()), sequenceLength, scratchDirectory, options },
    runtime: { ...runtime, threads: 1, memoryBudgetBytes },
  });
}
