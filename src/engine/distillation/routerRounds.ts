import { joinSequences, tokenBatch } from "../execution/batches";
import { MemoryHiddenStates, type HiddenStates } from "../execution/hiddenStates";
import type { ModelExecutor } from "../execution/modelExecutor";
import { moeLayers, numLogits } from "../model/moeLayers";
import type { VocabularyHead } from "../execution/vocabularyHead";
import type { TokenSequences } from "../data/sequences";
import { routerKl } from "./routerKl";
import type { StudentAwareTeacher } from "./studentAwareTeacher";
import type { TrainingTargets } from "./targets";
import type { TrainState } from "./trainState";

export interface RouterRoundsOptions {
  teacher: StudentAwareTeacher;
  student: { executor: ModelExecutor; head: VocabularyHead };
  /** The sequences of an update. */
  batchOf: (update: number) => Promise<TokenSequences>;
  totalUpdates: number;
  /** Updates a round. */
  roundUpdates: number;
  /** Of the routers at an update. */
  learningRateAt: (update: number) => number;
  clip: number;
  /** Mean KL of trained to original routers above which they stay as they are, nats. */
  freezeAbove: number;
  state: TrainState;
  signal: AbortSignal | undefined;
}

/**
 * Student-Aware Router in rounds: at the start of each, the teacher's routers take one step for each of its updates, with the
 * student as it is then, and the teacher runs once over all of the round's sequences; its updates then learn from that. One
 * update a round is the published loop; more of them read the teacher less often.
 *
 * Everything follows from the saved state: a round that was left amid its updates finds its routers there, and computes the
 * same targets again.
 */
export class RouterRounds {
  #round = -1;
  #targets: HiddenStates | null = null;
  /** Tokens of each of the round's updates. */
  #tokensOf: number[] = [];

  constructor(readonly options: RouterRoundsOptions) {}

  /** What an update learns from. */
  async targetsFor(update: number): Promise<TrainingTargets> {
    const { roundUpdates, totalUpdates, batchOf, teacher, state, signal } = this.options;
    const round = Math.floor(update / roundUpdates);
    const first = round * roundUpdates;
    if (round !== this.#round) {
      const updates = Array.from({ length: Math.min(roundUpdates, totalUpdates - first) }, (_, i) => first + i);
      if (state.routerRound < round) {
        if (!state.routersFrozen) for (const one of updates) await this.#trainRouters(one);
        state.routerRound = round;
      }
      const batches: TokenSequences[] = [];
      for (const one of updates) batches.push(await batchOf(one));
      this.#targets?.close();
      this.#targets = await teacher.targets(joinSequences(batches), signal);
      this.#tokensOf = batches.map(({ ids }) => ids.length);
      this.#round = round;
    }
    const { sequenceLength } = await batchOf(update);
    const from = this.#tokensOf.slice(0, update - first).reduce((sum, tokens) => sum + tokens, 0);
    const read = (numbers: ArrayLike<number>): Promise<HiddenStates> => {
      const count = numbers.length * sequenceLength;
      const rows = new MemoryHiddenStates(count, this.#targets!.width);
      rows.write(0, this.#targets!.read(from, from + count));
      return Promise.resolve(rows);
    };
    return { routerLogits: null, draws: [{ read }] };
  }

  /**
   * How far the trained routers are from the teacher's own, each at its own hidden states: mean KL of each sparse layer, nats.
   * Above the limit, routers train no more.
   */
  async measure(sequences: TokenSequences): Promise<number[]> {
    const { teacher, state, signal, freezeAbove } = this.options;
    const { valid } = tokenBatch(sequences);
    const trained = await routerLogits(teacher.executor, sequences, signal);
    const current = new Map(teacher.executor.parameters);
    for (const [key, values] of teacher.original) teacher.executor.parameters.set(key, values);
    try {
      const original = await routerLogits(teacher.executor, sequences, signal);
      const layers = moeLayers(teacher.executor.options.description);
      const kl = layers.map(({ layer: index, moe }) =>
        routerKl(moe.routing, original.get(index)!, trained.get(index)!, numLogits(moe), valid ?? null),
      );
      const mean = kl.reduce((sum, value) => sum + value, 0) / kl.length;
      state.routersFrozen ||= mean > freezeAbove;
      return kl;
    } finally {
      for (const [key, values] of current) teacher.executor.parameters.set(key, values);
    }
  }

  async close(): Promise<void> {
    this.#targets?.close();
    await this.options.teacher.close();
  }

  async #trainRouters(update: number): Promise<void> {
    const { teacher, student, batchOf, learningRateAt, clip, signal } = this.options;
    const sequences = await batchOf(update);
    using hidden = await student.executor.forward(tokenBatch(sequences), { signal });
    await student.head.normalise(hidden, signal);
    const { gradients } = await teacher.lossAndGradients(sequences, hidden, signal);
    teacher.update(gradients, learningRateAt(update), clip);
  }
}

/** Router logits of every sparse layer, [tokens, experts]. */
async function routerLogits(
  executor: ModelExecutor,
  sequences: TokenSequences,
  signal: AbortSignal | undefined,
): Promise<Map<number, Float32Array>> {
  const found = new Map<number, Float32Array>();
  const tokens = sequences.ids.length;
  const hidden = await executor.forward(tokenBatch(sequences), {
    signal,
    observer: {
      observe: ({ layer, firstToken, numRouterRows, routerLogits: rows }) => {
        const all = found.get(layer) ?? new Float32Array(tokens * numRouterRows);
        all.set(rows, firstToken * numRouterRows);
        found.set(layer, all);
      },
    },
  });
  hidden.close();
  return found;
}
