import { RerouteError } from "../../protocol/errors";
import type { ModelEvaluation } from "../../protocol/evaluation";
import { nextTokens } from "../execution/batches";
import type { HeadSource } from "../execution/headGraphs";
import { perDomain, perSequence, type RowValues } from "./aggregate";
import { estimateMean } from "./bootstrap";
import { costOfCheckpoint } from "./checkpointCost";
import { speedOf } from "./passMeter";
import { runAgainst, runAlone, type EvaluateOptions } from "./modelRuns";

export type { EvaluateOptions } from "./modelRuns";

/**
 * Loss, perplexity and, against a teacher, KL over the vocabulary, top-1 agreement and routing fidelity of a checkpoint
 * on held-out sequences. Every mean is over target positions; uncertainty is over sequences, or over documents where one spans
 * several.
 *
 * @throws RerouteError `checkpoint/not-finite` where weights make NaN or infinity, naming the layer
 */
export async function evaluateCheckpoint(options: EvaluateOptions): Promise<ModelEvaluation> {
  const { model, teacher, sequences, expertMapping } = options;
  const targets = nextTokens(sequences);
  const run = options.passes
    ? await options.passes()
    : teacher === null
      ? await runAlone(options, targets.labels)
      : await runAgainst(teacher, options, targets.labels);
  checkLosses(run.nll, targets.isTarget, model);
  options.onRows?.({ nll: run.nll, kl: run.kl, isTarget: targets.isTarget });
  const cost = costOfCheckpoint(model, sequences.sequenceLength);

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
    // A dense student has none.
    routing: run.routing?.length ? run.routing : null,
    expertMapping,
    cost: { ...cost, ...speedOf(run.chunks), peakMemoryBytes: run.peakMemoryBytes },
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
