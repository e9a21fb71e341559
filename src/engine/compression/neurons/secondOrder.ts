import { RerouteError } from "../../../protocol/errors";
import { nextTokens, pickSequences, tokenBatch } from "../../execution/batches";
import { ModelExecutor } from "../../execution/modelExecutor";
import type { LayerGradient } from "../../execution/passOptions";
import { Tape } from "../../execution/tape";
import { VocabularyHead } from "../../execution/vocabularyHead";
import type { LayerDescription, ModelDescription, MoeDescription } from "../../model/description";
import { routingWeights } from "../../model/routingWeights";
import { readExpert, type ExpertMatrices } from "../layer/expertMatrices";
import { LayerEngine } from "../layer/layerEngine";
import { readVector } from "../layer/outputError";
import { addSquares } from "../layer/expertInputs";
import { calibrationOf, type MethodContext } from "../methodContext";
import { moeLayers } from "../../model/moeLayers";
import type { NeuronOptions } from "./options";
import { magnitudeScores } from "./scores";
import type { ScoredLayer } from "./widths";

/** Sequences whose activations are taped together. */
const batchSize = 16;

/** Sums over the tokens routed to one expert. */
interface UnitSums {
  tokens: number;
  /** [I]: sum of h_tj^2, and of (down_j . gamma_t)^2. */
  activations: Float64Array;
  gradients: Float64Array;
}

/**
 * HEAPr's score of each unit (arXiv 2509.22299): mean h_tj^2 times down_j^T G_e down_j over the tokens routed to the expert, where
 * G_e is the mean of gamma gamma^T and gamma_t the gradient of the text's loss in the expert's output, before the routing weight
 * multiplies it: the second-order change of the loss without the unit, G_e standing for the Hessian. down_j^T G_e down_j is
 * summed as (down_j . gamma_t)^2, so no G is kept. One forward and one backward pass.
 *
 * @throws RerouteError model/unsupported-option where more than a sum is behind the experts
 */
export async function secondOrderScores(
  context: MethodContext,
  options: NeuronOptions,
  notes: string[],
): Promise<ScoredLayer[]> {
  const { checkpoint, description, runtime, stateDirectory: scratchDirectory, signal, report } = context;
  requirePlainSums(description);
  const all = calibrationOf(context, options.sequences);
  const { sequenceLength } = all;
  const executor = await ModelExecutor.open({
    checkpoint,
    description,
    runtime,
    sequenceLength,
    scratchDirectory,
    direction: "backward",
  });
  const engine = new LayerEngine(runtime, checkpoint, description.hiddenSize);
  const sums = new Map(moeLayers(description).map(({ layer, moe }) => [layer, moe.experts.map(() => noSums(moe))]));
  const head = new VocabularyHead(
    { checkpoint, description },
    executor.sessions,
    executor.plan.headPositions,
    null,
    executor.trained,
  );
  try {
    for (let from = 0; from < all.numSequences; from += batchSize) {
      const count = Math.min(batchSize, all.numSequences - from);
      const sequences = pickSequences(
        all,
        Array.from({ length: count }, (_, i) => from + i),
      );
      const batch = tokenBatch(sequences);
      const tape = new Tape();
      const hidden = await executor.forward(batch, { tape, signal });
      try {
        const { labels, isTarget } = nextTokens(sequences);
        const rowWeights = Float32Array.from(isTarget);
        const loss = { loss: "lm", temperature: 1, lmShare: 1 } as const;
        const gradients = executor.trained.zeros();
        await head.lossAndGradient(hidden, { teacherHidden: null, labels }, rowWeights, loss, signal, gradients);
        await executor.backward(
          tape,
          hidden,
          {
            signal,
            layerGradient: (gradient) => addLayer(engine, sums.get(gradient.layer.index) ?? [], gradient, batch.valid),
          },
          gradients,
        );
      } finally {
        hidden.close();
        tape.close();
      }
      const [done, total] = [from + count, all.numSequences];
      report?.({ stage: "compress", message: "Gradients of the experts' outputs", done, total, unit: "steps" });
    }
    return await scoresOf(context, sums, notes);
  } finally {
    await engine.close();
    await executor.close();
  }
}

function noSums({ intermediateSize: I }: MoeDescription): UnitSums {
  return { tokens: 0, activations: new Float64Array(I), gradients: new Float64Array(I) };
}

async function addLayer(
  engine: LayerEngine,
  sums: readonly UnitSums[],
  { layer, firstToken, feedForwardInput, routerLogits, selectedIds, dHidden }: LayerGradient,
  valid: Uint8Array | undefined,
): Promise<void> {
  const moe = layer.feedForward;
  if (moe.kind !== "moe") return;
  const H = engine.hiddenSize;
  const { numExpertsPerToken: k, numExperts: E } = moe;
  const tokens = selectedIds.length / k;
  const scale = moe.router.expertScale ? await readVector(engine.checkpoint, moe.router.expertScale) : null;
  const weights = routingWeights(moe.routing, routerLogits, selectedIds, tokens, E, k, scale);
  const factor = layer.feedForwardMultiplier * moe.routedMultiplier;
  for (const [e, own] of sums.entries()) {
    const slots: number[] = [];
    for (let slot = 0; slot < selectedIds.length; slot++) {
      const counts = valid === undefined || valid[firstToken + Math.floor(slot / k)] !== 0;
      if (selectedIds[slot] === e && counts) slots.push(slot);
    }
    if (slots.length === 0) continue;
    const inputs = new Float32Array(slots.length * H);
    const gammas = new Float32Array(slots.length * H);
    slots.forEach((slot, row) => {
      const at = Math.floor(slot / k) * H;
      const [before, behind] = moe.weightsInput ? [weights[slot]!, factor] : [1, weights[slot]! * factor];
      for (let h = 0; h < H; h++) {
        inputs[row * H + h] = feedForwardInput[at + h]! * before;
        gammas[row * H + h] = dHidden[at + h]! * behind;
      }
    });
    const expert = await readExpert(engine.checkpoint, moe.experts[e]!, `expert ${e} of layer ${layer.index}`);
    addSquares(own.activations, await engine.intermediate(moe, expert, inputs), null);
    addSquares(own.gradients, await engine.timesTransposed(gammas, columnsFirst(expert), H), null);
    own.tokens += slots.length;
  }
}

/** The down projection [H, I] as [I, H]. */
function columnsFirst({ downProj, hiddenSize: H, intermediateSize: I }: ExpertMatrices): Float32Array {
  const result = new Float32Array(downProj.length);
  for (let h = 0; h < H; h++) for (let j = 0; j < I; j++) result[j * H + h] = downProj[h * I + j]!;
  return result;
}

async function scoresOf(
  { checkpoint, description }: MethodContext,
  sums: ReadonlyMap<number, UnitSums[]>,
  notes: string[],
): Promise<ScoredLayer[]> {
  const found: ScoredLayer[] = [];
  for (const { layer, moe } of moeLayers(description)) {
    const own = sums.get(layer)!;
    const unused = own.flatMap(({ tokens }, e) => (tokens === 0 ? [e] : []));
    if (unused.length > 0) {
      notes.push(
        `layer ${layer}: ${unused.length} of ${moe.numExperts} experts never routed (${unused.join(", ")}); their units are chosen by magnitude`,
      );
    }
    const scores: Float64Array[] = [];
    for (const [e, { tokens, activations, gradients }] of own.entries()) {
      if (tokens > 0) scores.push(activations.map((sum, j) => (sum / tokens) * (gradients[j]! / tokens)));
      else {
        const expert = await readExpert(checkpoint, moe.experts[e]!, `expert ${e} of layer ${layer}`);
        scores.push(magnitudeScores(expert).map((score) => score * 1e-300));
      }
    }
    found.push({ layer, scores });
  }
  return found;
}

function requirePlainSums({ layers, family }: ModelDescription): void {
  const other = layers.find(
    ({ feedForward, feedForwardOutputNorm, scalar }: LayerDescription) =>
      feedForward.kind === "moe" &&
      (feedForwardOutputNorm !== null || scalar !== undefined || feedForward.routedNorm !== undefined),
  );
  if (other === undefined) return;
  throw new RerouteError(
    "model/unsupported-option",
    `Layer ${other.index} of this ${family} checkpoint normalises what its experts give, which score=heapr does not follow; use score=energy`,
  );
}
