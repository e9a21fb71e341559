import { RerouteError } from "../../protocol/errors";
import type { ModelEvaluation, RoutingFidelityLayer } from "../../protocol/evaluation";
import type { ReportProgress } from "../../protocol/progress";
import type { TokenSequences } from "../data/sequences";
import { nextTokens, tokenBatch } from "../execution/batches";
import type { HeadSource } from "../execution/headGraphs";
import { spill, type HiddenStates } from "../execution/hiddenStates";
import { ModelExecutor } from "../execution/modelExecutor";
import { numLogits, moeLayers } from "../execution/moeLayers";
import { headsAreEqual, VocabularyHead } from "../execution/vocabularyHead";
import type { RuntimeOptions } from "../runtime/session";
import { checkpointCost } from "./cost";
import { perDomain, perSequence, type RowValues } from "./aggregate";
import { estimateMean } from "./estimate";
import { RouterTrace } from "./routerTrace";
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
  /** Anonymous resident bytes of this process; sampled while the model runs. */
  residentBytes: () => number;
  /** Keeps the teacher's run for the next evaluations against the same teacher; whoever makes it closes it. */
  teacherRuns?: TeacherRuns;
  signal?: AbortSignal;
  report?: ReportProgress;
}

/**
 * Loss, perplexity and, against a teacher, KL over the vocabulary, top-1 agreement and routing fidelity of a checkpoint
 * on held-out sequences. Every mean is over target positions; uncertainty is over sequences.
 *
 * @throws RerouteError `checkpoint/not-finite` where weights make NaN or infinity, naming the layer
 */
export async function evaluateCheckpoint(options: EvaluateOptions): Promise<ModelEvaluation> {
  const { model, teacher, sequences, expertMapping } = options;
  const targets = nextTokens(sequences);
  const run =
    teacher === null ? await runAlone(options, targets.labels) : await runAgainst(teacher, options, targets.labels);
  checkLosses(run.nll, targets.isTarget, model);
  const cost = checkpointCost(model, sequences.sequenceLength);

  const byRow = (rows: Float32Array): RowValues => ({ rows, isTarget: targets.isTarget });
  const nll = perSequence(byRow(run.nll), sequences);
  const kl = run.kl === null ? null : perSequence(byRow(run.kl), sequences);
  const top1 = run.agreement === null ? null : perSequence(byRow(run.agreement), sequences);
  const mean = estimateMean(nll);
  const tokens = nll.tokens.reduce((sum, count) => sum + count, 0);
  const perToken = ({ sums, tokens: counts }: typeof nll) => sums.map((sum, s) => sum / counts[s]!);
  return {
    checkpoint: model.checkpoint.directory,
    tokens,
    sequences: sequences.numSequences,
    nllPerToken: mean.mean,
    perplexity: Math.exp(mean.mean),
    klToTeacher: kl && estimateMean(kl).mean,
    top1Agreement: top1 && estimateMean(top1).mean,
    uncertainty: { nllPerToken: mean, klToTeacher: kl && estimateMean(kl), top1Agreement: top1 && estimateMean(top1) },
    perSequence: { nll: perToken(nll), kl: kl && perToken(kl), top1: top1 && perToken(top1) },
    byDomain: perDomain(byRow(run.nll), run.kl && byRow(run.kl), sequences),
    routing: run.routing,
    expertMapping,
    cost: { ...cost, tokensPerSecond: run.tokensPerSecond, peakMemoryBytes: run.peakMemoryBytes },
  };
}

/** The forward pass stops at a layer that gives NaN; what is left is the head. */
function checkLosses(nll: Float32Array, isTarget: Uint8Array, { checkpoint }: HeadSource): void {
  if (nll.every((loss, i) => isTarget[i] === 0 || Number.isFinite(loss))) return;
  throw new RerouteError(
    "checkpoint/not-finite",
    `The loss of ${checkpoint.directory} is NaN or infinite although the outputs of all layers are finite; check its final norm and vocabulary head`,
  );
}

interface ModelRun {
  nll: Float32Array;
  kl: Float32Array | null;
  agreement: Float32Array | null;
  routing: RoutingFidelityLayer[] | null;
  tokensPerSecond: number;
  peakMemoryBytes: number;
}

/** A model without a teacher. It may be the teacher of evaluations to come: then its run is kept. */
async function runAlone(options: EvaluateOptions, labels: Int32Array): Promise<ModelRun> {
  const { model, sequences, teacherRuns, signal } = options;
  const peak = peakOf(options);
  const started = performance.now();
  let result: ModelRun | null = null;
  const measure = async (executor: ModelExecutor, hidden: HiddenStates) => {
    const nll = await headOf(model, executor).nll(hidden, labels, signal);
    const seconds = (performance.now() - started) / 1e3;
    const measured = { tokensPerSecond: labels.length / seconds, peakMemoryBytes: peak.largest() };
    result = { nll, kl: null, agreement: null, routing: null, ...measured };
  };
  const shared = teacherRuns ?? new TeacherRuns();
  shared.close();
  await shared.get(model, sequences, () => runTeacher(model, options, { measure, onChunk: peak.onChunk }));
  if (teacherRuns === undefined) shared.close();
  return result!;
}

interface TeacherHooks {
  /** Looks at the final hidden states before they are normalised. */
  measure: (executor: ModelExecutor, hidden: HiddenStates) => Promise<void>;
  onChunk: () => void;
}

async function runTeacher(teacher: HeadSource, options: EvaluateOptions, hooks?: TeacherHooks): Promise<TeacherRun> {
  const { sequences, signal, scratchDirectory } = options;
  const executor = await open(teacher, options);
  // Teacher and student are held together: each kind of the teacher's arrays gets a part of what hidden states may take.
  const allowance = executor.plan.hiddenStateBytes / 4;
  const trace = new RouterTrace(sequences.ids.length, scratchDirectory, traceBytes(teacher, sequences) <= allowance);
  const report = progress(options, teacher, hooks ? "Evaluating" : "Running the teacher");
  const onChunk = (tokens: number) => {
    hooks?.onChunk();
    report(tokens);
  };
  let hidden: HiddenStates | null = null;
  try {
    // A model that is measured alone, with nothing to come, leaves no trace.
    const isWanted = hooks === undefined || options.teacherRuns !== undefined;
    const observer = isWanted ? { observer: trace } : {};
    hidden = await executor.forward(tokenBatch(sequences), { ...observer, signal, onChunk });
    await hooks?.measure(executor, hidden);
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

async function runAgainst(teacher: HeadSource, options: EvaluateOptions, labels: Int32Array): Promise<ModelRun> {
  const shared = options.teacherRuns ?? new TeacherRuns();
  try {
    const run = await shared.get(teacher, options.sequences, () => runTeacher(teacher, options));
    return await runStudent(options, run, labels);
  } finally {
    if (options.teacherRuns === undefined) shared.close();
  }
}

async function runStudent(options: EvaluateOptions, teacher: TeacherRun, labels: Int32Array): Promise<ModelRun> {
  const { model, sequences, signal } = options;
  const executor = await open(model, options);
  const peak = peakOf(options);
  const report = progress(options, model, "Evaluating");
  const onChunk = (tokens: number) => {
    peak.onChunk();
    report(tokens);
  };
  let hidden: HiddenStates | null = null;
  try {
    const fidelity = teacher.trace.compareWith(mappings(options), tokenBatch(sequences).valid);
    const started = performance.now();
    hidden = await executor.forward(tokenBatch(sequences), { observer: fidelity, signal, onChunk });
    const sharedHead = await headsAreEqual(model, teacher.source);
    const head = headOf(model, executor, { source: teacher.source, sharedHead });
    const rows = await head.compare(hidden, teacher.hidden, labels, signal);
    const seconds = (performance.now() - started) / 1e3;
    const measured = { tokensPerSecond: labels.length / seconds, peakMemoryBytes: peak.largest() };
    return { ...rows, routing: fidelity.results(), ...measured };
  } finally {
    hidden?.close();
    await executor.close();
  }
}

function headOf(model: HeadSource, executor: ModelExecutor, teacher: VocabularyHead["teacher"] = null): VocabularyHead {
  return new VocabularyHead(model, executor.sessions, executor.plan.headPositions, teacher);
}

/** The largest sample of this process's memory, taken after every chunk of a layer. */
function peakOf({ residentBytes }: EvaluateOptions) {
  let largest = residentBytes();
  const onChunk = () => {
    largest = Math.max(largest, residentBytes());
  };
  return { onChunk, largest: () => largest };
}

function traceBytes({ description }: HeadSource, { ids }: TokenSequences): number {
  return (
    ids.length * moeLayers(description).reduce((sum, [, moe]) => sum + 4 * (numLogits(moe) + moe.numExpertsPerToken), 0)
  );
}

/** The kept-expert mapping of each layer; the identity where none is given. */
function mappings({ model, expertMapping }: EvaluateOptions): Map<number, number[][]> {
  return new Map(
    moeLayers(model.description).map(([{ index }, moe]) => [
      index,
      expertMapping?.[String(index)] ?? Array.from({ length: numLogits(moe) }, (_, e) => [e]),
    ]),
  );
}

function open(source: HeadSource, { sequences, runtime, scratchDirectory }: EvaluateOptions): Promise<ModelExecutor> {
  const { sequenceLength } = sequences;
  return ModelExecutor.open({ ...source, sequenceLength, runtime, scratchDirectory, direction: "forward" });
}

function progress({ report, sequences }: EvaluateOptions, { description }: HeadSource, message: string) {
  const total = sequences.ids.length;
  let done = 0;
  return (tokens: number) => {
    done += tokens / description.layers.length;
    report?.({ stage: "evaluate", message, done: Math.round(done), total, unit: "tokens" });
  };
}
