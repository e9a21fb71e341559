import type { Checkpoint } from "../../checkpoint/checkpoint";
import { nextTokens, tokenBatch } from "../../execution/batches";
import type { HiddenStates } from "../../execution/hiddenStates";
import { ModelExecutor } from "../../execution/modelExecutor";
import { VocabularyHead } from "../../execution/vocabularyHead";
import type { LayerDescription, ModelDescription, MoeDescription } from "../../model/description";
import { weightKey } from "../../graph/blocks/weights";
import type { TokenSequences } from "../../data/sequences";
import type { MethodContext } from "../methodContext";

/** What a change of one layer does to what the model says, means over target positions, nats. */
export interface ModelEffect {
  /** KL(p || p') over the vocabulary, p the unchanged model. */
  kl: number;
  /** Change of -log p(next token); may be negative. */
  loss: number;
}

/** A change of one layer. */
export type LayerChange =
  /** This expert cannot be selected. */
  | { withoutExpert: number }
  /** [rows, hidden]: another router. */
  | { router: Float32Array }
  /** A model whose layers from this one on are run instead; it has the same head. */
  | { model: { checkpoint: Checkpoint; description: ModelDescription } };

/** Measures changes of the layer that the pass has come to: from its input on, the model runs again. */
export type MeasureChange = (change: LayerChange) => Promise<ModelEffect>;

/**
 * Runs the text through the model, and at each MoE layer lets `onLayer` measure changes of it. The hidden states before the
 * layer are kept, so that a change costs the layers from this one on, and no more.
 */
export async function measureLayers(
  context: MethodContext,
  sequences: TokenSequences,
  onLayer: (layer: LayerDescription, moe: MoeDescription, measure: MeasureChange) => Promise<void>,
): Promise<void> {
  const { checkpoint, description, runtime, stateDirectory: scratchDirectory, signal } = context;
  const { sequenceLength } = sequences;
  const blocked = new Map<number, readonly number[]>();
  const executor = await ModelExecutor.open({
    ...{ checkpoint, description, runtime, sequenceLength, scratchDirectory, blocked },
    direction: "forward",
  });
  const source = { checkpoint, description };
  const teacher = { source, sharedHead: true };
  const head = new VocabularyHead(source, executor.sessions, executor.plan.headPositions, teacher, executor.trained);
  const batch = tokenBatch(sequences);
  const { labels, isTarget } = nextTokens(sequences);
  let reference: HiddenStates | null = null;
  try {
    reference = await executor.forward(batch, { signal });
    await head.normalise(reference, signal);
    let before = 0;
    /** @param hidden null: from the embedding on */
    const measureFrom = async (
      done: number,
      hidden: HiddenStates | null,
      runner: ModelExecutor = executor,
    ): Promise<ModelEffect> => {
      const start = hidden === null ? {} : { start: { layers: done, hidden: borrowed(hidden) } };
      using changed = await runner.forward(batch, { signal, ...start });
      const { kl, nll } = await head.compare(changed, reference!, labels, signal);
      return { kl: meanOver(kl, isTarget), loss: meanOver(nll, isTarget) - before };
    };
    const { layers } = description;
    const visit = async (done: number, hidden: HiddenStates | null): Promise<void> => {
      const layer = layers[done];
      if (layer?.feedForward.kind !== "moe") return;
      if (before === 0) before = (await measureFrom(done, hidden)).loss;
      const key = weightKey(layer.feedForward.router.weight);
      const own = executor.parameters.get(key)!;
      await onLayer(layer, layer.feedForward, async (change) => {
        if ("model" in change) {
          const other = await ModelExecutor.open({
            ...{ ...change.model, runtime, sequenceLength, scratchDirectory, direction: "forward" },
          });
          try {
            return await measureFrom(done, hidden, other);
          } finally {
            await other.close();
          }
        }
        try {
          if ("router" in change) executor.parameters.set(key, change.router);
          else blocked.set(layer.index, [change.withoutExpert]);
          return await measureFrom(done, hidden);
        } finally {
          executor.parameters.set(key, own);
          blocked.delete(layer.index);
        }
      });
    };
    await visit(0, null);
    using _ = await executor.forward(batch, { signal, onLayer: visit });
  } finally {
    reference?.close();
    await executor.close();
  }
}

/** The same states, which whoever gets them cannot close. */
function borrowed(states: HiddenStates): HiddenStates {
  const nothing = () => undefined;
  return {
    numTokens: states.numTokens,
    width: states.width,
    read: (from, to) => states.read(from, to),
    write: (from, rows) => states.write(from, rows),
    close: nothing,
    [Symbol.dispose]: nothing,
  };
}

/** Mean of the values [T] of those tokens that are targets; 0 where none is. */
export function meanOver(values: Float32Array, isTarget: ArrayLike<number>): number {
  let [sum, count] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    if (!isTarget[i]) continue;
    sum += values[i]!;
    count++;
  }
  return count > 0 ? sum / count : 0;
}
