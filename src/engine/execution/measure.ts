import os from "node:os";
import type { Checkpoint } from "../checkpoint/checkpoint";
import type { ModelDescription } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import { MemoryHiddenStates, type HiddenStates } from "./hiddenStates";
import { ModelExecutor } from "./modelExecutor";
import { moeLayers } from "./moeLayers";
import type { RoutingObserver } from "./observer";
import { Tape } from "./tape";
import { VocabularyHead } from "./vocabularyHead";

export interface MeasureOptions {
  checkpoint: Checkpoint;
  description: ModelDescription;
  sequenceLength: number;
  runtime: RuntimeOptions;
  /** What a profile does with each observation: part of its time. */
  observer: RoutingObserver;
  signal?: AbortSignal;
}

/** Tokens that are timed: enough rows an expert for products to run at speed, few enough to take seconds. */
const timedTokens = 1024;
/** Positions of the vocabulary head that are timed. */
const timedPositions = 256;

/** Speeds of the whole model on this machine, tokens a second, and seconds to compile all its layers once. */
export interface Measurement {
  forwardTokensPerSecond: number;
  /** A forward pass that looks at every expert's outputs, as profiling does. */
  observedTokensPerSecond: number;
  /** Forward and backward pass of all layers, without the head. */
  updateTokensPerSecond: number;
  /** Comparison with a teacher over the vocabulary, and loss with gradient. */
  headTokensPerSecond: number;
  headUpdateTokensPerSecond: number;
  compileForwardSeconds: number;
  compileUpdateSeconds: number;
  assumption: string;
}

/**
 * Measures one MoE layer of this model on this machine, once below and once above itself, because only the upper one
 * needs input gradients, and the vocabulary head; scales by the number of layers. Reading weights from a cold disk is not
 * part of it.
 */
export async function measureMachine(options: MeasureOptions): Promise<Measurement> {
  const { checkpoint, description, sequenceLength, runtime, signal, observer } = options;
  const layer = moeLayers(description)[0]![0];
  const pair: ModelDescription = { ...description, layers: [layer, { ...layer, index: layer.index + 1 }] };
  const source = { checkpoint, description: pair };
  const executor = await ModelExecutor.open({
    ...source,
    sequenceLength,
    runtime,
    direction: "backward",
    scratchDirectory: os.tmpdir(),
  });
  try {
    const numLayers = description.layers.length;
    const sequences = Math.max(1, Math.round(timedTokens / sequenceLength));
    const tokens = sequences * sequenceLength;
    const idsOf = (count: number) =>
      Int32Array.from({ length: count * sequenceLength }, (_, i) => (i * 7919) % description.vocabSize);

    const first = await timeUpdate(executor, idsOf(1), signal);
    const again = await timeUpdate(executor, idsOf(1), signal);
    const timed = await timeUpdate(executor, idsOf(sequences), signal);
    await executor.forward({ ids: idsOf(1) }, { observer, collectOutputs: true, signal }).then(close);
    const startedObserving = performance.now();
    await executor.forward({ ids: idsOf(sequences) }, { observer, collectOutputs: true, signal }).then(close);
    const observed = secondsSince(startedObserving) / 2;

    const head = new VocabularyHead(source, executor.sessions, executor.plan.headPositions, {
      source,
      sharedHead: true,
    });
    const headTimes = await timeHead(head, description.hiddenSize, signal);
    const rate = (secondsALayer: number) => tokens / secondsALayer / numLayers;
    // Of all layers only the lowest gets away without input gradients.
    const backward = (timed.upper * (numLayers - 1) + timed.lower) / numLayers;
    return {
      forwardTokensPerSecond: rate(timed.forward / 2),
      observedTokensPerSecond: rate(observed),
      updateTokensPerSecond: rate(timed.forward / 2 + backward),
      headTokensPerSecond: headTimes.positions / headTimes.compare,
      headUpdateTokensPerSecond: headTimes.positions / headTimes.update,
      compileForwardSeconds: Math.max(0, (first.forward - again.forward) / 2) * numLayers,
      compileUpdateSeconds: Math.max(0, (total(first) - total(again)) / 2) * numLayers,
      assumption: `layer ${layer.index} measured with ${tokens} tokens, times ${numLayers} layers; cold reads of weights not included`,
    };
  } finally {
    await executor.close();
  }
}

interface UpdateTimes {
  /** Seconds for both layers. */
  forward: number;
  upper: number;
  lower: number;
}

async function timeUpdate(
  executor: ModelExecutor,
  ids: Int32Array,
  signal: AbortSignal | undefined,
): Promise<UpdateTimes> {
  const tape = new Tape();
  try {
    const started = performance.now();
    const hidden = await executor.forward({ ids }, { tape, signal });
    hidden.close();
    const forward = secondsSince(started);
    const startedBackward = performance.now();
    let left = ids.length;
    let upper = 0;
    const onChunk = (tokens: number) => {
      left -= tokens;
      if (left === 0) upper = secondsSince(startedBackward);
    };
    const gradient = new MemoryHiddenStates(ids.length, executor.options.description.hiddenSize);
    // Numbers of the size of real gradients: all zeros would be faster than they are.
    gradient.write(
      0,
      Float32Array.from({ length: ids.length * gradient.width }, (_, i) => 1e-3 * Math.sin(i)),
    );
    await executor.backward(tape, gradient, { signal, onChunk });
    return { forward, upper, lower: secondsSince(startedBackward) - upper };
  } finally {
    tape.close();
  }
}

async function timeHead(head: VocabularyHead, width: number, signal: AbortSignal | undefined) {
  const positions = Math.min(timedPositions, head.positionsPerRun);
  const states = (count: number) => {
    const hidden = new MemoryHiddenStates(count, width);
    hidden.write(
      0,
      Float32Array.from({ length: count * width }, (_, i) => Math.sin(i)),
    );
    return hidden;
  };
  const compare = (count: number) => head.compare(states(count), states(count), new Int32Array(count), signal);
  const update = (count: number) => {
    const targets = { teacherHidden: states(count), labels: new Int32Array(count) };
    const weights = new Float32Array(count).fill(1 / count);
    return head.lossAndGradient(states(count), targets, weights, { loss: "kd", temperature: 1 }, signal);
  };
  // The first runs compile.
  await compare(1);
  await update(1);
  let started = performance.now();
  await compare(positions);
  const compareSeconds = secondsSince(started);
  started = performance.now();
  await update(positions);
  return { positions, compare: compareSeconds, update: secondsSince(started) };
}

function close(hidden: HiddenStates): void {
  hidden.close();
}

function total({ forward, upper, lower }: UpdateTimes): number {
  return forward + upper + lower;
}

function secondsSince(started: number): number {
  return (performance.now() - started) / 1e3;
}
