import type { ReportProgress } from "../../protocol/progress";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { contentKey } from "../checkpoint/contentKey";
import { sliceSequences, textRead, type TokenSequences } from "../data/sequences";
import type { ModelDescription } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import { tokenBatch } from "./batches";
import type { ExecutionPlan } from "./memoryPlan";
import { ModelExecutor } from "./modelExecutor";
import type { RoutingObserver } from "./observer";
import { PassState, type PassSums } from "./passState";

export interface ProfileOptions {
  checkpoint: Checkpoint;
  description: ModelDescription;
  sequences: TokenSequences;
  observer: RoutingObserver;
  /** Also report norms, maxima and sums of every expert's outputs. */
  collectOutputs: boolean;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  /** Keeps what an interrupted pass needs to go on; absent: it begins anew. */
  resume?: PassSums;
  /** Seconds between saves, at least: a save costs a flush to disk. 0: every layer is saved. */
  saveEverySeconds?: number;
  /** Tokens a shard; for tests. */
  shardTokens?: number;
  signal?: AbortSignal;
  report?: ReportProgress;
}

/**
 * Tokens that go through all layers before the next do: many enough that reading and compiling a layer is nothing beside
 * its arithmetic, few enough that hidden states stay small on disk and an interruption loses minutes.
 */
export const profileShardTokens = 2 ** 17;

/**
 * The sequences through the model, shard by shard and layer by layer. Chunks are the same whatever the shards, so the
 * observer adds the same numbers in the same order, in one go or after an interruption.
 */
export async function profileCheckpoint(options: ProfileOptions): Promise<void> {
  const { sequences, description, report, observer, collectOutputs, signal } = options;
  const { numSequences, sequenceLength } = sequences;
  const executor = await ModelExecutor.open({ ...options, sequenceLength, direction: "forward" });
  const numLayers = description.layers.length;
  const perShard = sequencesOfShard(options, executor.plan);
  const numShards = Math.ceil(numSequences / perShard);
  const shardOf = (shard: number) =>
    sliceSequences(sequences, shard * perShard, Math.min(numSequences, (shard + 1) * perShard));
  const tokensOf = (shard: number) =>
    (Math.min(numSequences, (shard + 1) * perShard) - shard * perShard) * sequenceLength;
  try {
    const state = stateOf(options, executor.plan.chunkSequences, perShard);
    const shards = Array.from({ length: numShards }, (_, shard) => ({ numTokens: tokensOf(shard) }));
    const found = await state?.load(shards, {
      mostLayers: numLayers - 1,
      width: description.hiddenSize,
    });
    const { shard: firstShard, layers: firstLayer } = found?.position ?? { shard: 0, layers: 0 };
    const total = sequences.ids.length;
    let done = firstShard * perShard * sequenceLength;
    const count = (tokens: number) => {
      done += tokens / numLayers;
      report?.({ stage: "profile", message: "Profiling routing", done: Math.round(done), total, unit: "tokens" });
    };
    for (let shard = firstShard; shard < numShards; shard++) {
      const offset = shard * perShard * sequenceLength;
      const batch = tokenBatch(shardOf(shard));
      const isContinued = shard === firstShard && found?.hidden;
      if (isContinued) count(batch.ids.length * firstLayer);
      const hidden = await executor.forward(batch, {
        observer: shifted(observer, offset),
        collectOutputs,
        signal,
        onChunk: count,
        ...(isContinued ? { start: { layers: firstLayer, hidden: found.hidden! } } : {}),
        onLayer: async (layers, states) => {
          if (layers < numLayers) await state?.save({ shard, layers }, states);
        },
      });
      hidden.close();
      if (shard + 1 < numShards) await state?.save({ shard: shard + 1, layers: 0 }, null);
    }
  } finally {
    await executor.close();
  }
}

/** Whole chunks, so that shards do not change how tokens are cut up. */
function sequencesOfShard(options: ProfileOptions, { chunkSequences }: ExecutionPlan): number {
  const { sequences, shardTokens = profileShardTokens } = options;
  return Math.max(1, Math.floor(shardTokens / sequences.sequenceLength / chunkSequences)) * chunkSequences;
}

function stateOf(options: ProfileOptions, chunkSequences: number, perShard: number): PassState | null {
  const { resume, sequences, collectOutputs, scratchDirectory, saveEverySeconds = 5 } = options;
  if (resume === undefined) return null;
  const { threads, provider } = options.runtime;
  const cuts = { chunkSequences, perShard, threads, provider };
  const key = contentKey({ model: resume.identity, text: textRead(sequences), collectOutputs, cuts });
  return new PassState("profile", resume, key, scratchDirectory, saveEverySeconds);
}

/** Observers count tokens over all shards. */
function shifted(observer: RoutingObserver, offset: number): RoutingObserver {
  if (offset === 0) return observer;
  const afterLayer = observer.afterLayer?.bind(observer);
  return {
    observe: (observation) => observer.observe({ ...observation, firstToken: observation.firstToken + offset }),
    ...(afterLayer ? { afterLayer } : {}),
  };
}
