import { RerouteError } from "../../protocol/errors";
import type { CheckpointCost, ModelEvaluation } from "../../protocol/evaluation";
import { nextTokens } from "../execution/batches";
import type { HeadSource } from "../execution/headGraphs";
import { countParameters, flopsPerToken } from "../model/parameters";
import { allViewsIn } from "../execution/weightViews";
import { workingSetBytes } from "../execution/workingSet";
import { perDomain, perSequence, type RowValues } from "./aggregate";
import { estimateMean } from "./bootstrap";
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

function bytesOf(entries: readonly { byteLength: number }[]): number {
  return entries.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** The same model with routers and no routed expert. */
function withoutExperts(description: HeadSource["description"]): HeadSource["description"] {
  return {
    ...description,
    layers: description.layers.map((layer) =>
      layer.feedForward.kind === "moe" ? { ...layer, feedForward: { ...layer.feedForward, experts: [] } } : layer,
    ),
  };
}

/** Bytes of tensors that no routed expert is stored in. */
function bytesOutsideExperts({ tensors }: HeadSource["checkpoint"], description: HeadSource["description"]): number {
  const names = new Set(allViewsIn(withoutExperts(description)).map(({ tensor }) => tensor));
  return bytesOf([...names].flatMap((name) => tensors.get(name) ?? []));
}

/** What a checkpoint costs to keep and to run; measured figures are null until something has been run. */
function checkpointCost({ checkpoint, description }: HeadSource, sequenceLength: number): CheckpointCost {
  const { total, active } = countParameters(description);
  const bytes = bytesOf([...checkpoint.tensors.values()]);
  const others = bytesOutsideExperts(checkpoint, description);
  const inExperts = total - countParameters(withoutExperts(description)).total;
  const portions = { attentionSequences: 1, chunkSequences: 1, headPositions: 1 };
  return {
    parametersTotal: total,
    parametersActive: active,
    bytes,
    bitsPerWeight: (8 * bytes) / total,
    ...(inExperts > 0 ? { expertBitsPerWeight: (8 * (bytes - others)) / inExperts } : {}),
    activationBytes: workingSetBytes(
      { description, sequenceLength, direction: "forward", trained: undefined },
      portions,
    ),
    flopsPerToken: flopsPerToken(description, sequenceLength),
    tokensPerSecond: null,
    tokensPerSecondQuartiles: null,
    peakMemoryBytes: null,
  };
}
