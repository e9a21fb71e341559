import { RerouteError } from "../../protocol/errors";
import type { ModelEvaluation, RoutingFidelityLayer } from "../../protocol/evaluation";
import type { ReportProgress } from "../../protocol/progress";
import type { TokenSequences } from "../data/sequences";
import { nextTokens, tokenBatch } from "../execution/batches";
import type { HeadSource } from "../execution/headGraphs";
import { ModelExecutor } from "../execution/modelExecutor";
import { numLogits, moeLayers } from "../execution/moeLayers";
import { headsAreEqual, VocabularyHead } from "../execution/vocabularyHead";
import type { RuntimeOptions } from "../runtime/session";
import { checkpointCost } from "./cost";
import { perDomain, perSequence, type RowValues } from "./aggregate";
import { estimateMean } from "./estimate";
import { RouterTrace } from "./routerTrace";

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
  const teacherRun = teacher === null ? null : await runTeacher(teacher, options);
  const run = await runModel(options, teacherRun, targets.labels);
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

interface TeacherRun {
  source: HeadSource;
  hidden: Awaited<ReturnType<VocabularyHead["normalise"]>>;
  trace: RouterTrace;
}

async function runTeacher(teacher: HeadSource, options: EvaluateOptions): Promise<TeacherRun> {
  const executor = await open(teacher, options);
  const trace = new RouterTrace();
  try {
    const onChunk = progress(options, teacher, "Running the teacher");
    const hidden = await executor.forward(tokenBatch(options.sequences), {
      observer: trace,
      signal: options.signal,
      onChunk,
    });
    const head = new VocabularyHead(teacher, executor.sessions, executor.plan.headPositions);
    const normalised = await head.normalise(hidden, options.signal);
    hidden.close();
    return { source: teacher, hidden: normalised, trace };
  } finally {
    await executor.close();
  }
}

async function runModel(options: EvaluateOptions, teacher: TeacherRun | null, labels: Int32Array) {
  const { model, sequences, signal, residentBytes } = options;
  const executor = await open(model, options);
  try {
    let peakMemoryBytes = residentBytes();
    const report = progress(options, model, "Evaluating");
    const onChunk = (tokens: number) => {
      peakMemoryBytes = Math.max(peakMemoryBytes, residentBytes());
      report(tokens);
    };
    const fidelity = teacher?.trace.compareWith(mappings(options), tokenBatch(sequences).valid);
    const started = performance.now();
    const hidden = await executor.forward(tokenBatch(sequences), {
      ...(fidelity ? { observer: fidelity } : {}),
      signal,
      onChunk,
    });
    const shared = teacher !== null && (await headsAreEqual(model, teacher.source));
    const headTeacher = teacher === null ? null : { source: teacher.source, sharedHead: shared };
    const head = new VocabularyHead(model, executor.sessions, executor.plan.headPositions, headTeacher);
    const rows =
      teacher === null
        ? { nll: await head.nll(hidden, labels, signal), kl: null, agreement: null }
        : await head.compare(hidden, teacher.hidden, labels, signal);
    hidden.close();
    const seconds = (performance.now() - started) / 1e3;
    const routing: RoutingFidelityLayer[] | null = fidelity?.results() ?? null;
    return { ...rows, routing, tokensPerSecond: labels.length / seconds, peakMemoryBytes };
  } finally {
    await executor.close();
  }
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
