import type { RoutingFidelityLayer } from "../../protocol/evaluation";
import type { ReportProgress } from "../../protocol/progress";
import type { TokenSequences } from "../data/sequences";
import { tokenBatch } from "../execution/batches";
import type { HeadSource } from "../execution/headGraphs";
import { spill, type HiddenStates } from "../execution/hiddenStates";
import { ModelExecutor } from "../execution/modelExecutor";
import type { ForwardOptions } from "../execution/passOptions";
import { moeLayers, numLogits } from "../model/moeLayers";
import type { PassState } from "../execution/passState";
import { headsAreEqual, VocabularyHead } from "../execution/vocabularyHead";
import type { RuntimeOptions } from "../runtime/session";
import { studentState, teacherState, type EvaluationResume } from "./evaluationState";
import { PassMeter, type Measured } from "./passMeter";
import { RouterTrace } from "./routerTrace";
import type { EvaluatedRows } from "./tokenValues";
import { TeacherRuns, type TeacherRun } from "./teacherRuns";

export interface EvaluateOptions {
  model: HeadSource;
  /** With a teacher: KL, agreement and routing fidelity too. */
  teacher: HeadSource | null;
  sequences: TokenSequences;
  /** Teacher expert ids of each student expert, by layer number; null without a teacher. */
  expertMapping: Record<string, number[][]> | null;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  /** Lets an interrupted evaluation go on behind the last layer that was saved; absent: it begins anew. */
  resume?: EvaluationResume;
  /** Anonymous resident bytes of this process; sampled while the model runs. */
  residentBytes: () => number;
  /** Keeps the teacher's run for the next evaluations against the same teacher; whoever makes it closes it. */
  teacherRuns?: TeacherRuns;
  /** Sees the values of single tokens before they are averaged. */
  onRows?: (rows: EvaluatedRows) => void;
  /** Makes the pass of the model, against its teacher where there is one, elsewhere. */
  passes?: () => Promise<ModelRun>;
  signal?: AbortSignal;
  report?: ReportProgress;
}

/** What one model's pass over the sequences gives: values of each row, and what it took. */
export interface ModelRun extends Measured {
  nll: Float32Array;
  kl: Float32Array | null;
  agreement: Float32Array | null;
  routing: RoutingFidelityLayer[] | null;
}

/** A model without a teacher. It may be the teacher of evaluations to come: then its run is kept. */
export async function runAlone(options: EvaluateOptions, labels: Int32Array): Promise<ModelRun> {
  const { model, sequences, teacherRuns, signal } = options;
  const meter = new PassMeter(options.residentBytes, options.sequences.ids.length);
  let result: ModelRun | null = null;
  const measure = async (executor: ModelExecutor, hidden: HiddenStates) => {
    const nll = await headOf(model, executor).nll(hidden, labels, signal);
    result = { nll, kl: null, agreement: null, routing: null, ...meter.measured() };
  };
  const shared = teacherRuns ?? new TeacherRuns();
  shared.close();
  await shared.get(model, sequences, () =>
    runTeacher(model, options, meter, { measure, keepsTrace: teacherRuns !== undefined }),
  );
  if (teacherRuns === undefined) shared.close();
  return result!;
}

/** A student, against the run of its teacher. */
export async function runAgainst(teacher: HeadSource, options: EvaluateOptions, labels: Int32Array): Promise<ModelRun> {
  const shared = options.teacherRuns ?? new TeacherRuns();
  try {
    const meter = new PassMeter(options.residentBytes, options.sequences.ids.length);
    const run = await shared.get(teacher, options.sequences, () =>
      runTeacher(teacher, options, meter, { keepsTrace: true }),
    );
    return await runStudent(options, run, labels);
  } finally {
    if (options.teacherRuns === undefined) shared.close();
  }
}

/**
 * @param how.measure looks at the final hidden states before they are normalised, where the teacher itself is evaluated
 * @param how.keepsTrace whether its routing is wanted; a model that is measured alone, with nothing to come, leaves none
 */
export async function runTeacher(
  teacher: HeadSource,
  options: EvaluateOptions,
  meter: PassMeter,
  {
    measure,
    keepsTrace: isWanted,
  }: { measure?: (executor: ModelExecutor, hidden: HiddenStates) => Promise<void>; keepsTrace: boolean },
): Promise<TeacherRun> {
  const { sequences, signal, scratchDirectory, resume, runtime } = options;
  const executor = await open(teacher, options);
  // Teacher and student are held together: each kind of the teacher's arrays gets a part of what hidden states may take.
  const allowance = executor.plan.hiddenStateBytes / 4;
  const trace = new RouterTrace(sequences.ids.length, scratchDirectory, traceBytes(teacher, sequences) <= allowance);
  let hidden: HiddenStates | null = null;
  try {
    const fingerprint = options.teacher === null ? resume?.model : resume?.teacher;
    const pass = { sequences, runtime, plan: executor.plan, description: teacher.description };
    const stateOf = (how: EvaluationResume | undefined) =>
      how === undefined || fingerprint == null
        ? null
        : teacherState(how, fingerprint, pass, isWanted ? trace : null, meter);
    const state = stateOf(resume);
    // For others, the end of the pass is kept whenever the last save was.
    const end = resume?.teacherDirectory === undefined ? state : stateOf({ ...resume, saveEverySeconds: 0 });
    const count = progress(options, teacher, measure ? "Evaluating" : "Running the teacher");
    const hooks = { ...(isWanted ? { observer: trace } : {}), meter, count };
    hidden = await forward(executor, options, { state, end }, hooks);
    await measure?.(executor, hidden);
    await headOf(teacher, executor).normalise(hidden, signal);
    const fits = hidden.numTokens * hidden.width * 4 <= allowance;
    return { source: teacher, hidden: fits ? hidden : spill(hidden, scratchDirectory), trace };
  } catch (error) {
    hidden?.close();
    trace.close();
    throw error;
  } finally {
    await executor.close();
  }
}

/** A student, against a teacher's run over the same sequences. */
export async function runStudent(options: EvaluateOptions, teacher: TeacherRun, labels: Int32Array): Promise<ModelRun> {
  const { model, sequences, signal, resume, runtime, expertMapping } = options;
  const executor = await open(model, options);
  let hidden: HiddenStates | null = null;
  try {
    const fidelity = teacher.trace.compareWith(
      mappingsOf(options),
      tokenBatch(sequences).valid,
      sequences.sequenceLength,
    );
    const meter = new PassMeter(options.residentBytes, options.sequences.ids.length);
    const pass = { sequences, runtime, plan: executor.plan, description: model.description, expertMapping };
    const state = resume === undefined ? null : studentState(resume, pass, fidelity, meter);
    const count = progress(options, model, "Evaluating");
    hidden = await forward(executor, options, { state, end: state }, { observer: fidelity, meter, count });
    const sharedHead = await headsAreEqual(model, teacher.source);
    const head = headOf(model, executor, { source: teacher.source, sharedHead });
    const rows = await head.compare(hidden, teacher.hidden, labels, signal);
    return { ...rows, routing: fidelity.results(), ...meter.measured() };
  } finally {
    hidden?.close();
    await executor.close();
  }
}

/** All layers over all sequences, from where the state says that an earlier attempt was; `end` keeps what is behind the last. */
async function forward(
  executor: ModelExecutor,
  { sequences, signal }: EvaluateOptions,
  { state, end }: Record<"state" | "end", PassState | null>,
  { meter, count, ...hooks }: Pick<ForwardOptions, "observer"> & { meter: PassMeter; count: (tokens: number) => void },
): Promise<HiddenStates> {
  const { hiddenSize, layers } = executor.options.description;
  const batch = tokenBatch(sequences);
  const numTokens = batch.ids.length;
  const found = await state?.load([{ numTokens }], { mostLayers: layers.length, width: hiddenSize });
  if (found) count(numTokens * found.position.layers);
  return executor.forward(batch, {
    ...hooks,
    signal,
    onChunk: (tokens) => {
      meter.onChunk(tokens);
      count(tokens);
    },
    ...(found?.hidden ? { start: { layers: found.position.layers, hidden: found.hidden } } : {}),
    onLayer: async (done, states) => {
      await (done === layers.length ? end : state)?.save({ shard: 0, layers: done }, states);
    },
  });
}

function headOf(model: HeadSource, executor: ModelExecutor, teacher: VocabularyHead["teacher"] = null): VocabularyHead {
  return new VocabularyHead(model, executor.sessions, executor.plan.headPositions, teacher);
}

function traceBytes({ description }: HeadSource, { ids }: TokenSequences): number {
  return (
    ids.length * moeLayers(description).reduce((sum, { moe }) => sum + 4 * (numLogits(moe) + moe.numExpertsPerToken), 0)
  );
}

/** The kept-expert mapping of each layer; the identity where none is given. */
export function mappingsOf({
  model,
  expertMapping,
}: Pick<EvaluateOptions, "model" | "expertMapping">): Map<number, number[][]> {
  return new Map(
    moeLayers(model.description).map(({ layer: index, moe }) => [
      index,
      expertMapping?.[String(index)] ?? Array.from({ length: numLogits(moe) }, (_, e) => [e]),
    ]),
  );
}

function open(source: HeadSource, { sequences, runtime, scratchDirectory }: EvaluateOptions): Promise<ModelExecutor> {
  const { sequenceLength } = sequences;
  return ModelExecutor.open({ ...source, sequenceLength, runtime, scratchDirectory, direction: "forward" });
}

/** Counts tokens through all layers. */
function progress(
  { report, sequences }: EvaluateOptions,
  { description }: HeadSource,
  message: string,
): (tokens: number) => void {
  const total = sequences.ids.length;
  let done = 0;
  return (tokens) => {
    done += tokens / description.layers.length;
    report?.({ stage: "evaluate", message, done: Math.round(done), total, unit: "tokens" });
  };
}
