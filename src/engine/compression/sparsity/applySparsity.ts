import type { SparsityPlan } from "../../../protocol/plan";
import { throwIfCancelled } from "../../../protocol/errors";
import { matrix, toFloat32 } from "../../linalg/matrix";
import type { MoeDescription } from "../../model/description";
import { LayerGrams } from "../editing/grams";
import {
  compressLayers,
  neverRoutedNotes,
  type LayerAtHand,
  type LayerWork,
  type StagedLayer,
} from "../layer/compressLayers";
import { inputNorms, routedTokens, type RoutedTokens } from "../layer/expertInputs";
import { projections, projectionShape, readExpert, type ExpertMatrices } from "../layer/expertMatrices";
import { inPlace, stagedExpert, stagedLayer, type LayerOutcome } from "../layer/stagedExperts";
import { calibrationOf, hashSequences, type MethodContext } from "../methodContext";
import { requireSums } from "../plan/validateLayout";
import { appliedSparsityOptions, type AppliedSparsityOptions } from "./options";
import { countZeros, maskedExpert } from "./pruneExpert";
import { sparseGpt } from "./sparseGpt";

/** Whether applying the plan looks at activations. */
export function sparsityNeedsText({ method }: SparsityPlan): boolean {
  return method !== "magnitude";
}

/** Zeroes the weights that a plan's shares leave out, one expert at a time, staged on disk in the layout they were read in. */
export function applySparsity(context: MethodContext, plan: SparsityPlan): Promise<Map<number, StagedLayer>> {
  const options = appliedSparsityOptions(plan);
  if (options.sequential) requireSums(plan.method, context.description);
  const data = sparsityNeedsText(plan) ? hashSequences(calibrationOf(context, options.sequences)) : null;
  const { method, pattern, layers } = plan;
  return compressLayers({
    ...{ context, sequences: options.sequences, readsText: context.sequences !== null },
    sequential: options.sequential,
    inputs: (layer) => ({
      ...{ version: 1, fingerprint: context.fingerprint, layer, method, pattern, options, data },
      keep: layers[String(layer)]!.keep,
      earlier: options.sequential ? Object.entries(layers).filter(([other]) => Number(other) < layer) : [],
      measured: context.sequences !== null,
    }),
    prepare: (at) => prepare(context, plan, options, at),
    result: (layer, moe, stage) => ({ ...stage, staged: stage.tensors, outcome: outcomeOf(plan, layer, moe) }),
  });
}

function prepare(
  { checkpoint, signal }: MethodContext,
  plan: SparsityPlan,
  options: AppliedSparsityOptions,
  at: LayerAtHand,
): LayerWork {
  const { layer, moe, collected } = at;
  const outcome = outcomeOf(plan, layer, moe);
  const counts = { zeros: 0, numbers: 0 };
  const pruner = expertPruner(plan, options, at);
  const pruned = (e: number) => async () => {
    throwIfCancelled(signal);
    const expert = await readExpert(checkpoint, moe.experts[e]!, `expert ${e} of layer ${layer}`);
    const result = await pruner(e, expert);
    const { zeros, numbers } = countZeros(result);
    counts.zeros += zeros;
    counts.numbers += numbers;
    return result;
  };
  const byMagnitude = "their weights are chosen by magnitude";
  return {
    tensors: outcome.experts.flatMap(({ source, stagedAs }) =>
      stagedAs === null ? [] : stagedExpert(stagedAs, moe.experts[source]!, pruned(source)),
    ),
    runnable: (staged) => ({ ...stagedLayer(checkpoint, moe, outcome, staged), outcome, name: "sparse" }),
    found: () => ({
      metrics: counts.numbers > 0 ? { zeros: counts.zeros / counts.numbers } : {},
      notes: collected && sparsityNeedsText(plan) ? neverRoutedNotes(collected, byMagnitude) : [],
    }),
  };
}

type ExpertPruner = (expert: number, matrices: ExpertMatrices) => Promise<ExpertMatrices>;

/** How the method makes one expert's weights. */
function expertPruner(
  plan: SparsityPlan,
  options: AppliedSparsityOptions,
  { engine, products, layer, collected }: LayerAtHand,
): ExpertPruner {
  const { method, pattern } = plan;
  const shares = plan.layers[String(layer)]!.keep;
  const compare = method === "magnitude" ? options.compare : "row";
  const byMagnitude: ExpertPruner = (e, expert) =>
    Promise.resolve(maskedExpert(expert, { keep: shares[e]!, pattern, compare, norms: null }));
  if (method === "magnitude" || collected === null) return byMagnitude;
  const routed: readonly RoutedTokens[] = routedTokens(collected);
  const grams = new LayerGrams(engine, collected, options.gramMix);
  return async (e, expert) => {
    // Nothing is known of what such an expert sees.
    if (routed[e]!.tokens.length === 0) return byMagnitude(e, expert);
    const keep = shares[e]!;
    if (method !== "sparsegpt") {
      const norms = await inputNorms(engine, collected, routed[e]!, expert, method === "moe-pruner");
      return maskedExpert(expert, { keep, pattern, compare: "row", norms });
    }
    const result = { ...expert };
    for (const projection of projections) {
      const weights = matrix(...projectionShape(expert, projection), expert[projection]);
      const gram = projection === "downProj" ? await grams.expertIntermediates(e) : await grams.expertInputs(e);
      await sparseGpt(products, weights, gram, { keep, pattern, damp: options.damp, block: options.block });
      result[projection] = toFloat32(weights);
    }
    return result;
  };
}

/** New weights for the experts that lose some. */
function outcomeOf({ layers }: SparsityPlan, layer: number, moe: MoeDescription): LayerOutcome {
  const { keep } = layers[String(layer)]!;
  return inPlace(moe, (e) => keep[e]! < 1 && !moe.experts[e]!.constant);
}
