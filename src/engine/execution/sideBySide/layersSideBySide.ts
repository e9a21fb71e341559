import { throwIfCancelled } from "../../../protocol/errors";
import type { LayerDescription } from "../../model/description";
import { noteGraphSeconds } from "../../runtime/session";
import { previewBytes } from "../../model/previewProducts";
import { FasterWay, type Way } from "../../runtime/sideBySide/fasterWay";
import { budgetOfThread, canHaveThreads, PartThreads } from "../../runtime/sideBySide/partThreads";
import { weightKey } from "../../graph/blocks/weights";
import type { HiddenStates } from "../hiddenStates";
import { chunksOf, type Leaves } from "../leaves";
import { threadsThatFit } from "./threadsThatFit";
import type { ExecutorOptions } from "../executorOptions";
import type { ForwardOptions, TokenBatch } from "../passOptions";
import { attentionViews } from "../weightViews";
import type { LayerPart, LayerPartResult, LayerThreadData } from "./layerPart";

/** Tokens through a layer from which on compiling it in every thread is soon made good. */
export const worthCompiling = 2 ** 15;

/** Parts that are timed together, for each thread. */
const roundsTimed = 2;

/**
 * Forward passes of small models, whose graphs end before a second thread has begun: parts of a batch may go through a layer in
 * executors of one thread each, side by side, whichever way is faster now. Parts are the executor's own chunks, or whole leaves where
 * outputs are summed, and what observers see comes in the order of the tokens, so that the bytes are the same.
 */
export class LayersSideBySide {
  readonly #faster = new FasterWay();
  readonly #tokens = new Map<number, number>();
  #threads: PartThreads<LayerThreadData, LayerPart, LayerPartResult> | null = null;
  /** Parts that threads have done. */
  parts = 0;

  /** @param way always this one, instead of the faster one; for tests */
  constructor(
    readonly of: ExecutorOptions,
    /** Of threads. */
    readonly count: number,
    readonly leaves: Leaves,
    /** Of a chunk, which is a part unless outputs are summed: whole leaves then. */
    readonly chunkSequences: number,
    readonly parameters: ReadonlyMap<string, Float32Array>,
    readonly way?: Way,
  ) {}

  /**
   * Replaces the hidden states of a batch by a layer's outputs.
   * @param alone the same for some tokens by the executor itself
   * @returns false where the executor is to go on by itself with all of them
   */
  async forward(
    place: number,
    batch: TokenBatch,
    hidden: HiddenStates,
    options: ForwardOptions,
    alone: (from: number, to: number) => Promise<void>,
  ): Promise<boolean> {
    const layer = this.of.description.layers[place]!;
    const tokens = (this.#tokens.get(place) ?? 0) + hidden.numTokens;
    this.#tokens.set(place, tokens);
    const { observer } = options;
    const hooks = options.tape ?? options.routerFit ?? options.onFeedForward;
    if (hooks !== undefined || !(observer === undefined || observer.readsRoutingOnly === true)) return false;
    const sums = observer !== undefined && options.collectOutputs === true;
    const parts = chunksOf(hidden.numTokens, sums ? this.leaves.sequences : this.chunkSequences, this.leaves);
    if (parts.length < 2 || (this.way === undefined && tokens < worthCompiling)) return false;
    this.#threads ??= this.#open();
    for (let done = 0; done < parts.length;) {
      throwIfCancelled(options.signal);
      const way = this.#threads.isReady ? (this.way ?? this.#faster.next(true)) : "one";
      const some = parts.slice(done, done + (way === "one" ? 1 : roundsTimed * this.#threads.count));
      const started = performance.now();
      if (way === "one") await alone(...some[0]!);
      else await this.#sideBySide(place, layer, batch, hidden, options, some, alone);
      const count = some.at(-1)![1] - some[0]![0];
      this.#faster.note(way, (performance.now() - started) / count, `${place} ${options.collectOutputs}`);
      done += some.length;
    }
    return true;
  }

  /** Resolves once threads are open; for tests. */
  async ready(): Promise<void> {
    this.#threads ??= this.#open();
    while (!this.#threads.isReady) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  async close(): Promise<void> {
    await this.#threads?.close();
  }

  async #sideBySide(
    place: number,
    layer: LayerDescription,
    { valid }: TokenBatch,
    hidden: HiddenStates,
    { observer, collectOutputs = false, onChunk, signal }: ForwardOptions,
    parts: readonly [number, number][],
    alone: (from: number, to: number) => Promise<void>,
  ): Promise<void> {
    const threads = this.#threads!;
    const parameters = new Map<string, Float32Array>();
    for (const key of attentionViews(layer).map(weightKey)) {
      const values = this.parameters.get(key);
      if (values !== undefined) parameters.set(key, values);
    }
    const asked = parts.map(([from, to], i) =>
      threads.ask(i % threads.count, {
        ...{ layer: place, x: hidden.read(from, to).slice(), firstToken: from, valid: valid?.slice(from, to) },
        ...{ parameters, observes: observer !== undefined, collectOutputs },
      }),
    );
    for (const [i, [from, to]] of parts.entries()) {
      const result = await asked[i]!;
      throwIfCancelled(signal);
      // What goes wrong in a thread goes wrong here too, where it has its own error.
      if (result === null) {
        await alone(from, to);
        continue;
      }
      for (const observation of result.seen) observer?.observe(observation);
      hidden.write(from, result.output);
      noteGraphSeconds(result.graphSeconds / Math.min(threads.count, parts.length));
      this.parts++;
      onChunk?.(to - from);
    }
  }

  #open() {
    const { checkpoint, description, sequenceLength, runtime, scratchDirectory } = this.of;
    const memoryBudgetBytes = budgetOfThread(this.count, runtime.memoryBudgetBytes);
    return new PartThreads<LayerThreadData, LayerPart, LayerPartResult>(this.count, "layers", {
      ...{ directory: checkpoint.directory, description, sequenceLength, scratchDirectory, leaves: this.leaves },
      runtime: { ...runtime, threads: 1, memoryBudgetBytes },
    });
  }
}

/** Threads that forward passes of an executor may use side by side; 0: none. */
export function sideBySideThreads(options: ExecutorOptions, leaves: Leaves): number {
  const { runtime, direction, sampler, blocked, unitMasks, trainable, description, sequenceLength } = options;
  const may =
    runtime.provider === "cpu" &&
    direction === "forward" &&
    runtime.watch === undefined &&
    canHaveThreads() &&
    sampler === undefined &&
    blocked === undefined &&
    unitMasks === undefined &&
    // Rounded over all rows of a run, numbers would depend on how they are cut, which other budgets of threads decide.
    previewBytes(description) === 0 &&
    (trainable?.size ?? 0) === 0;
  if (!may) return 0;
  return threadsThatFit({ description, sequenceLength, direction, sequences: leaves.sequences }, runtime).count;
}
