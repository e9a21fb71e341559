import os from "node:os";
import type { Checkpoint } from "../checkpoint/checkpoint";
import type { ModelDescription } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import { MemoryHiddenStates } from "./hiddenStates";
import { layerKinds } from "./layerKinds";
import { measureDisk, type DiskSpeeds } from "./measureDisk";
import { ModelExecutor } from "./modelExecutor";
import type { RoutingObserver } from "./observer";
import type { SessionCache } from "./sessionCache";
import { Tape } from "./tape";
import { VocabularyHead } from "./vocabularyHead";

export interface MeasureOptions {
  checkpoint: Checkpoint;
  description: ModelDescription;
  sequenceLength: number;
  runtime: RuntimeOptions;
  /** What a profile does with each observation: part of its time. */
  observer: RoutingObserver;
  /** The disk that runs would write to. */
  scratchDirectory?: string;
  signal?: AbortSignal;
}

/** Tokens that are timed: enough rows an expert for products to run at speed, few enough to take seconds. */
const timedTokens = 1024;
/** Positions of the vocabulary head that are timed. */
const timedPositions = 256;
/** What takes less than this is timed again, and the best time counts: short times are mostly what disturbs them. */
const steadySeconds = 1.5;

/** What a pass of the whole model costs: once for each chunk of tokens, as widening weights does, and for each token. */
export interface PassCost {
  secondsPerChunk: number;
  secondsPerToken: number;
}

/** Speeds of the whole model on this machine. */
export interface Measurement {
  forward: PassCost;
  /** A forward pass that looks at every expert's outputs, as profiling does. */
  observed: PassCost;
  /** Forward and backward pass of all layers, without the head. */
  update: PassCost;
  /** Comparison with a teacher over the vocabulary, and loss with gradient. */
  headTokensPerSecond: number;
  headUpdateTokensPerSecond: number;
  /** Seconds to compile all layers once, for each kind of pass. */
  compileForwardSeconds: number;
  compileObservedSeconds: number;
  compileUpdateSeconds: number;
  disk: DiskSpeeds;
  assumption: string;
}

/**
 * Measures one layer of each kind that this model has on this machine, and the vocabulary head; counts as many of each as
 * there are. A layer with experts is measured once below and once above itself, because only the upper one needs input
 * gradients; a dense one above a layer with experts, because below all of those nothing asks for a gradient.
 */
export async function measureMachine(options: MeasureOptions): Promise<Measurement> {
  const { checkpoint, description, sequenceLength, runtime, scratchDirectory = os.tmpdir(), signal } = options;
  // Before the layers' own weights come into the page cache.
  const disk = measureDisk(checkpoint, scratchDirectory);
  const { kinds, kindOf } = layerKinds(description);
  let head: HeadTimes | null = null;
  const times: LayerTimes[] = [];
  for (const layer of kinds) {
    const isSparse = layer.feedForward.kind === "moe";
    const upper = { ...layer, index: layer.index + 1 };
    const below = isSparse ? layer : { ...kinds[0]!, index: layer.index };
    const source = { checkpoint, description: { ...description, layers: [below, upper] } };
    const executor = await ModelExecutor.open({
      ...{ ...source, sequenceLength, runtime, scratchDirectory },
      direction: "backward",
    });
    try {
      // First, because the first graph of a process loads the runtime, which is no part of compiling layers.
      const { sessions, plan } = executor;
      const teacher = { source, sharedHead: true };
      head ??= await timeHead(
        new VocabularyHead(source, sessions, plan.headPositions, teacher),
        description.hiddenSize,
        signal,
      );
      times.push(ofOneLayer(await timePair(executor, options), isSparse ? null : (times[0] ?? null)));
    } finally {
      await executor.close();
    }
  }

  const ofAll = (seconds: (layer: LayerTimes) => number) =>
    kindOf.reduce((sum, kind) => sum + seconds(times[kind]!), 0);
  const lowest = description.layers.findIndex(({ feedForward }) => feedForward.kind === "moe");
  const backward = (of: "one" | "all") =>
    lowest < 0
      ? 0
      : kindOf.slice(lowest + 1).reduce((sum, kind) => sum + times[kind]![of].upper, times[kindOf[lowest]!]![of].lower);
  const size = { one: sequenceLength, all: sequencesOf(sequenceLength) * sequenceLength };
  const forward = costOf(
    size,
    ofAll(({ one }) => one.forward),
    ofAll(({ all }) => all.forward),
  );
  const back = costOf(size, backward("one"), backward("all"));
  const observed = ofAll((layer) => layer.observed);
  const counts = kinds.map((_, kind) => kindOf.filter((one) => one === kind).length);
  return {
    forward,
    observed: {
      secondsPerChunk: forward.secondsPerChunk,
      secondsPerToken: Math.max(forward.secondsPerToken, (observed - forward.secondsPerChunk) / size.all),
    },
    update: {
      secondsPerChunk: forward.secondsPerChunk + back.secondsPerChunk,
      secondsPerToken: forward.secondsPerToken + back.secondsPerToken,
    },
    headTokensPerSecond: head!.positions / head!.compare,
    headUpdateTokensPerSecond: head!.positions / head!.update,
    compileForwardSeconds: ofAll((layer) => layer.compileForward),
    compileObservedSeconds: ofAll((layer) => layer.compileObserved),
    compileUpdateSeconds: ofAll((layer) => layer.compileUpdate),
    disk,
    assumption:
      `${kinds.length > 1 ? "layers" : "layer"} ${kinds.map(({ index }) => index).join(", ")} measured with ${size.one} ` +
      `and ${size.all} tokens, times ${counts.join(", ")} layers`,
  };
}

/** Seconds of one layer; of the backward pass above all others (`upper`) and below them (`lower`). */
interface LayerTimes extends Record<"one" | "all", UpdateTimes> {
  observed: number;
  compileForward: number;
  compileObserved: number;
  compileUpdate: number;
}

/** Of the times of two layers those of one: half where they are equal, else what is left beside the lower one. */
function ofOneLayer(pair: LayerTimes, lower: LayerTimes | null): LayerTimes {
  const part = (of: (times: LayerTimes) => number) =>
    lower === null ? of(pair) / 2 : Math.max(0, of(pair) - of(lower));
  const update = (size: "one" | "all") => ({ ...pair[size], forward: part((times) => times[size].forward) });
  return {
    one: update("one"),
    all: update("all"),
    observed: part(({ observed }) => observed),
    compileForward: part(({ compileForward }) => compileForward),
    compileObserved: part(({ compileObserved }) => compileObserved),
    compileUpdate: part(({ compileUpdate }) => compileUpdate),
  };
}

function sequencesOf(sequenceLength: number): number {
  return Math.max(1, Math.round(timedTokens / sequenceLength));
}

/** Times an executor's two layers with one sequence and with several. */
async function timePair(
  executor: ModelExecutor,
  { description, sequenceLength, observer, signal }: MeasureOptions,
): Promise<LayerTimes> {
  const sequences = sequencesOf(sequenceLength);
  const idsOf = (count: number) =>
    Int32Array.from({ length: count * sequenceLength }, (_, i) => (i * 7919) % description.vocabSize);
  const { sessions } = executor;
  const observe = async (count: number) => {
    const started = runClock(sessions);
    (await executor.forward({ ids: idsOf(count) }, { observer, collectOutputs: true, signal })).close();
    return runClock(sessions) - started;
  };
  // Also brings the layer's weights into the page cache: reading them from disk is measured and counted by itself.
  let compiled = sessions.compileSeconds;
  const compileForward = (await timeUpdate(executor, idsOf(1), signal)).compileForward;
  const compileUpdate = sessions.compileSeconds - compiled;
  const one = await best(() => timeUpdate(executor, idsOf(1), signal), total);
  const all = await best(() => timeUpdate(executor, idsOf(sequences), signal), total);
  // So that a profile's graphs are all compiled anew, attention's too.
  await sessions.close();
  compiled = sessions.compileSeconds;
  await observe(1);
  const compileObserved = sessions.compileSeconds - compiled;
  const observed = await best(() => observe(sequences), Number);
  return { one, all, observed, compileForward, compileObserved, compileUpdate };
}

/**
 * The line through two times. What a chunk costs without tokens is at most 60 % of the longer time: two short times that
 * were disturbed must not say that tokens are free.
 */
function costOf(size: { one: number; all: number }, one: number, all: number): PassCost {
  if (size.all === size.one) return { secondsPerChunk: 0, secondsPerToken: all / size.all };
  const slope = (all - one) / (size.all - size.one);
  const secondsPerChunk = Math.max(0, Math.min(0.6 * all, all - slope * size.all));
  return { secondsPerChunk, secondsPerToken: (all - secondsPerChunk) / size.all };
}

/** The shortest of up to three times, where they are short. */
async function best<T>(work: () => Promise<T>, seconds: (result: T) => number): Promise<T> {
  // What a repeat compiles is no part of its time, and still has to be waited for.
  const started = performance.now();
  let shortest = await work();
  for (let repeat = 0; repeat < 2 && secondsSince(started) < steadySeconds; repeat++) {
    const again = await work();
    if (seconds(again) < seconds(shortest)) shortest = again;
  }
  return shortest;
}

interface UpdateTimes {
  /** Seconds for both layers. */
  forward: number;
  upper: number;
  lower: number;
  /** What the forward pass compiled on the way, which the other times leave out. */
  compileForward: number;
}

/** Seconds that go by, those of compiling left out: a short pass may have to compile what does not stay compiled. */
function runClock({ compileSeconds }: SessionCache): number {
  return performance.now() / 1e3 - compileSeconds;
}

async function timeUpdate(
  executor: ModelExecutor,
  ids: Int32Array,
  signal: AbortSignal | undefined,
): Promise<UpdateTimes> {
  const tape = new Tape();
  const { sessions } = executor;
  try {
    const compiled = sessions.compileSeconds;
    const started = runClock(sessions);
    const hidden = await executor.forward({ ids }, { tape, signal });
    hidden.close();
    const forward = runClock(sessions) - started;
    const compileForward = sessions.compileSeconds - compiled;
    const startedBackward = runClock(sessions);
    let left = ids.length;
    let upper = 0;
    const onChunk = (tokens: number) => {
      left -= tokens;
      if (left === 0) upper = runClock(sessions) - startedBackward;
    };
    const gradient = new MemoryHiddenStates(ids.length, executor.options.description.hiddenSize);
    // Numbers of the size of real gradients: all zeros would be faster than they are.
    gradient.write(
      0,
      Float32Array.from({ length: ids.length * gradient.width }, (_, i) => 1e-3 * Math.sin(i)),
    );
    await executor.backward(tape, gradient, { signal, onChunk });
    return { forward, upper, lower: runClock(sessions) - startedBackward - upper, compileForward };
  } finally {
    tape.close();
  }
}

/** Positions that were timed, and seconds for them. */
interface HeadTimes {
  positions: number;
  compare: number;
  update: number;
}

async function timeHead(head: VocabularyHead, width: number, signal: AbortSignal | undefined): Promise<HeadTimes> {
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

function total({ forward, upper, lower }: UpdateTimes): number {
  return forward + upper + lower;
}

function secondsSince(started: number): number {
  return (performance.now() - started) / 1e3;
}
