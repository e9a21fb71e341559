import type { SparsityPlan } from "../../../protocol/plan";
import { throwIfCancelled } from "../../../protocol/errors";
import type { CollectedLayer } from "../../execution/collectLayers";
import { matrix, toFloat32 } from "../../linalg/matrix";
import { MatrixProducts } from "../../linalg/products";
import type { MoeDescription } from "../../model/description";
import { LayerGrams } from "../editing/grams";
import type { CompressedLayer } from "../layer/compressedTensors";
import { inputNorms, routedTokens, type RoutedTokens } from "../layer/expertInputs";
import { projections, projectionShape, readExpert, type ExpertMatrices } from "../layer/expertMatrices";
import { LayerEngine } from "../layer/layerEngine";
import { passOn, relativeOutputError } from "../layer/outputError";
import { LayerStages, type LayerStage } from "../layer/stage";
import { stagedExpert, stagedLayer, type LayerOutcome } from "../layer/stagedExperts";
import { calibrationOf, collect, hashSequences, type MethodContext } from "../methodContext";
import { moeLayers } from "../../model/moeLayers";
import { requireSums } from "../plan/validateLayout";
import { appliedSparsityOptions, type AppliedSparsityOptions } from "./options";
import { countZeros, maskedExpert } from "./pruneExpert";
import { sparseGpt } from "./sparseGpt";

/** Whether applying the plan looks at activations. */
export function sparsityNeedsText({ method }: SparsityPlan): boolean {
  return method !== "magnitude";
}

interface SparsityRun {
  context: MethodContext;
  plan: SparsityPlan;
  options: AppliedSparsityOptions;
  stages: LayerStages;
  products: MatrixProducts;
  data: string | null;
}

/** Zeroes the weights that a plan's shares leave out, one expert at a time, staged on disk in the layout they were read in. */
export async function applySparsity(
  context: MethodContext,
  plan: SparsityPlan,
): Promise<Map<number, CompressedLayer & LayerStage>> {
  const options = appliedSparsityOptions(plan);
  if (options.sequential) requireSums(plan.method, context.description);
  const run: SparsityRun = {
    ...{ context, plan, options },
    stages: new LayerStages(context.stateDirectory),
    products: new MatrixProducts(context.runtime),
    data: sparsityNeedsText(plan) ? hashSequences(calibrationOf(context, options.sequences)) : null,
  };
  const layers = moeLayers(context.description);
  const done = new Map<number, CompressedLayer & LayerStage>();
  try {
    for (const { layer, moe } of layers) {
      const stage = await run.stages.find(layer, stageInputs(run, layer));
      if (stage) done.set(layer, { ...stage, staged: stage.tensors, outcome: outcomeOf(plan, layer, moe) });
    }
    if (done.size === layers.length) return done;
    if (context.sequences === null) {
      for (const { layer, moe } of layers) {
        if (!done.has(layer)) done.set(layer, await applyToLayer(run, layer, moe, null));
      }
      return done;
    }
    await collect(context, options.sequences, async (collected) => {
      const layer = collected.layer.index;
      if (done.has(layer) && !options.sequential) return;
      done.set(layer, await applyToLayer(run, layer, collected.moe, collected));
    });
    return done;
  } finally {
    await run.products.close();
  }
}

async function applyToLayer(
  run: SparsityRun,
  layer: number,
  moe: MoeDescription,
  collected: CollectedLayer | null,
): Promise<CompressedLayer & LayerStage> {
  const { context, plan, options, stages } = run;
  const outcome = outcomeOf(plan, layer, moe);
  const engine = new LayerEngine(context.runtime, context.checkpoint, context.description.hiddenSize);
  const runnable = (staged: LayerStage["tensors"]) => ({
    ...stagedLayer(context.checkpoint, moe, outcome, staged),
    outcome,
    name: "sparse",
  });
  try {
    let stage = await stages.find(layer, stageInputs(run, layer));
    if (stage === null) {
      const counts = { zeros: 0, numbers: 0 };
      const pruner = expertPruner(run, engine, layer, collected);
      const pruned = (e: number) => async () => {
        throwIfCancelled(context.signal);
        const expert = await readExpert(context.checkpoint, moe.experts[e]!, `expert ${e} of layer ${layer}`);
        const result = await pruner(e, expert);
        const { zeros, numbers } = countZeros(result);
        counts.zeros += zeros;
        counts.numbers += numbers;
        return result;
      };
      const tensors = outcome.experts.flatMap(({ source, stagedAs }) =>
        stagedAs === null ? [] : stagedExpert(stagedAs, moe.experts[source]!, pruned(source)),
      );
      stage = await stages.write(
        layer,
        stageInputs(run, layer),
        tensors,
        async (staged) => {
          const metrics: Record<string, number> = counts.numbers > 0 ? { zeros: counts.zeros / counts.numbers } : {};
          if (collected) metrics["outputError"] = await relativeOutputError(engine, collected, runnable(staged));
          return { notes: neverRoutedNotes(plan, layer, moe, collected), metrics };
        },
        context.signal,
      );
    }
    if (options.sequential && collected) await passOn(engine, collected, runnable(stage.tensors));
    return { ...stage, staged: stage.tensors, outcome };
  } finally {
    await engine.close();
  }
}

type ExpertPruner = (expert: number, matrices: ExpertMatrices) => Promise<ExpertMatrices>;

/** How the method makes one expert's weights. */
function expertPruner(
  { plan, options, products }: SparsityRun,
  engine: LayerEngine,
  layer: number,
  collected: CollectedLayer | null,
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

/** Every expert in its place; new weights for those that lose some. */
function outcomeOf({ layers }: SparsityPlan, layer: number, moe: MoeDescription): LayerOutcome {
  const { keep } = layers[String(layer)]!;
  return {
    experts: moe.experts.map(({ constant }, e) => ({ source: e, stagedAs: keep[e]! < 1 && !constant ? e : null })),
    routerRows: null,
    logicalToPhysical: null,
  };
}

function neverRoutedNotes(
  plan: SparsityPlan,
  layer: number,
  moe: MoeDescription,
  collected: CollectedLayer | null,
): string[] {
  if (collected === null || !sparsityNeedsText(plan)) return [];
  const unused = routedTokens(collected).flatMap(({ tokens }, e) => (tokens.length === 0 ? [e] : []));
  if (unused.length === 0) return [];
  return [
    `layer ${layer}: ${unused.length} of ${moe.numExperts} experts never routed by ${collected.numTokens} calibration tokens ` +
      `(${unused.join(", ")}); their weights are chosen by magnitude`,
  ];
}

function stageInputs({ context, plan, options, data }: SparsityRun, layer: number): unknown {
  const { method, pattern, layers } = plan;
  return {
    ...{ version: 1, fingerprint: context.fingerprint, layer, method, pattern, options, data },
    keep: layers[String(layer)]!.keep,
    earlier: options.sequential ? Object.entries(layers).filter(([other]) => Number(other) < layer) : [],
    measured: context.sequences !== null,
  };
}
