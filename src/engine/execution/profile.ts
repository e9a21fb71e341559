import type { ReportProgress } from "../../protocol/progress";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { contentKey } from "../checkpoint/contentKey";
import { sliceSequences, textRead, type TokenSequences } from "../data/sequences";
import type { ModelDescription } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import { tokenBatch } from "./batches";
import { blockSequences, leavesOf, type Leaves } from "./leaves";
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
  /** Whole blocks are a shard; for tests, absent: one. */
  shardTokens?: number;
  /** For tests; absent: as everywhere. */
  leaves?: Leaves;
  signal?: AbortSignal;
  report?: ReportProgress;
}

/**
 * The sequences through the model, shard by shard and layer by layer. Shards are whole blocks (leaves.ts), so that an
 * observer that cuts its sums at leaves adds the same numbers in the same tree, in one go or after an interruption.
 */
export async function profileCheckpoint(options: ProfileOptions): Promise<void> {
  const { sequences, description, report, observer, collectOutputs, signal } = options;
  const { numSequences, sequenceLength } = sequences;
  const leaves = options.leaves ?? leavesOf(sequenceLength);
  const executor = await ModelExecutor.open({ ...options, sequenceLength, leaves, direction: "forward" });
  const numLayers = description.layers.length;
  const perShard = sequencesOfShard(options, leaves);
  const numShards = Math.ceil(numSequences / perShard);
  const shardOf = (shard: number) =>
    sliceSequences(sequences, shard * perShard, Math.min(numSequences, (shard + 1) * perShard));
  const tokensOf = (shard: number) =>
    (Math.min(numSequences, (shard + 1) * perShard) - shard * perShard) * sequenceLength;
  try {
    const state = stateOf(options, perShard);
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

function sequencesOfShard({ shardTokens = 0 }: ProfileOptions, leaves: Leaves): number {
  const block = blockSequences(leaves);
  return Math.max(1, Math.floor(shardTokens / leaves.sequenceLength / block)) * block;
}

function stateOf(options: ProfileOptions, perShard: number): PassState | null {
  const { resume, sequences, collectOutputs, scratchDirectory, saveEverySeconds = 5 } = options;
  if (resume === undefined) return null;
  const { provider } = options.runtime;
  const key = contentKey({ model: resume.identity, text: textRead(sequences), collectOutputs, perShard, provider });
  return new PassState("profile", resume, key, scratchDirectory, saveEverySeconds);
}

/** Observers count tokens over all shards. */
function shifted(observer: RoutingObserver, offset: number): RoutingObserver {
  if (offset === 0) return observer;
  const afterLayer = observer.afterLayer?.bind(observer);
  return {
    ...(observer.readsRoutingOnly ? { readsRoutingOnly: true } : {}),
    observe: (observation) => observer.observe({ ...observation, firstToken: observation.firstToken + offset }),
    ...(afterLayer ? { afterLayer } : {}),
  };
}
