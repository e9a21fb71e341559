import { throwIfCancelled } from "../../../protocol/errors";
import type { NeuronsPlan } from "../../../protocol/plan";
import type { CollectedLayer } from "../../execution/collectLayers";
import { MatrixProducts } from "../../linalg/products";
import type { MoeDescription } from "../../model/description";
import type { CompressedLayer } from "../layer/compressedTensors";
import { routedTokens } from "../layer/expertInputs";
import { readExpert } from "../layer/expertMatrices";
import { LayerEngine } from "../layer/layerEngine";
import { relativeOutputError } from "../layer/outputError";
import { LayerStages, type LayerStage } from "../layer/stage";
import type { LayerOutcome } from "../layer/stagedExperts";
import { calibrationOf, collect, hashSequences, type MethodContext } from "../methodContext";
import { moeLayers } from "../../model/moeLayers";
import { cutExpert, repairedDown } from "./cutExpert";
import { narrowSources, narrowTensors, relocated, type ExpertParts } from "./narrow";
import { narrowedDescription, storedWidths } from "./narrowedConfig";
import { appliedNeuronOptions, type AppliedNeuronOptions } from "./options";

/** Whether applying the plan looks at activations. */
export function neuronsNeedText(plan: NeuronsPlan): boolean {
  return appliedNeuronOptions(plan).repair && removesAny(plan);
}

interface NeuronsRun {
  context: MethodContext;
  plan: NeuronsPlan;
  options: AppliedNeuronOptions;
  widths: ReadonlyMap<number, number[]>;
  stages: LayerStages;
  products: MatrixProducts;
  data: string | null;
}

/** Writes every layer's experts without the units that leave, staged on disk in the layout they were read in. */
export async function applyNeurons(
  context: MethodContext,
  plan: NeuronsPlan,
): Promise<Map<number, CompressedLayer & LayerStage>> {
  const options = appliedNeuronOptions(plan);
  narrowedDescription(context.checkpoint, context.family, context.description, plan);
  const run: NeuronsRun = {
    ...{ context, plan, options, widths: storedWidths(context.description, plan) },
    stages: new LayerStages(context.stateDirectory),
    products: new MatrixProducts(context.runtime),
    data: neuronsNeedText(plan) ? hashSequences(calibrationOf(context, options.sequences)) : null,
  };
  const done = new Map<number, CompressedLayer & LayerStage>();
  const layers = moeLayers(context.description);
  try {
    for (const { layer, moe } of layers) {
      const stage = await run.stages.find(layer, stageInputs(run, layer));
      if (stage) done.set(layer, finished(moe, stage));
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
      if (!done.has(layer)) done.set(layer, await applyToLayer(run, layer, collected.moe, collected));
    });
    return done;
  } finally {
    await run.products.close();
  }
}

async function applyToLayer(
  run: NeuronsRun,
  layer: number,
  moe: MoeDescription,
  collected: CollectedLayer | null,
): Promise<CompressedLayer & LayerStage> {
  const { context, plan, widths, stages, options, products } = run;
  const engine = new LayerEngine(context.runtime, context.checkpoint, context.description.hiddenSize);
  const { removed } = plan.layers[String(layer)]!;
  const own = widths.get(layer)!;
  const notes: string[] = [];
  const few: number[] = [];
  const routed = collected && routedTokens(collected);
  const make: ExpertParts = async (e, part) => {
    throwIfCancelled(context.signal);
    const expert = await readExpert(context.checkpoint, moe.experts[e]!, `expert ${e} of layer ${layer}`);
    const gone = new Set(removed[e]);
    const kept = Array.from({ length: expert.intermediateSize }, (_, unit) => unit).filter((unit) => !gone.has(unit));
    const result = cutExpert(expert, kept, own[e]!);
    if (part === "gate and up" || !options.repair || collected === null || gone.size === 0) return result;
    const downProj = await repairedDown({ engine, products }, collected, routed![e]!, expert, kept, own[e]!);
    if (downProj === null) few.push(e);
    return downProj === null ? result : { ...result, downProj };
  };
  try {
    const changes = removesAny(plan);
    const tensors = changes ? narrowTensors(context.checkpoint, moe, own) : [];
    const stage = await stages.write(
      layer,
      stageInputs(run, layer),
      narrowSources(moe, tensors, own, make),
      async (staged) => {
        const metrics: Record<string, number> = {};
        if (collected && changes) {
          const checkpoint = {
            ...context.checkpoint,
            tensors: new Map([...context.checkpoint.tensors, ...staged]),
          };
          const narrow = relocated(moe, tensors, own);
          const runnable = { checkpoint, moe: narrow, outcome: outcomeOf(moe), name: "narrow" };
          metrics["outputError"] = await relativeOutputError(engine, collected, runnable);
        }
        if (few.length > 0) {
          notes.push(
            `layer ${layer}: ${few.length} of ${moe.numExperts} experts saw fewer calibration tokens than they keep units ` +
              `(${few.join(", ")}); their down projections are not refitted`,
          );
        }
        return { metrics, notes };
      },
      context.signal,
    );
    return finished(moe, stage);
  } finally {
    await engine.close();
  }
}

function removesAny({ layers }: NeuronsPlan): boolean {
  return Object.values(layers).some(({ removed }) => removed.some(({ length }) => length > 0));
}

function outcomeOf(moe: MoeDescription): LayerOutcome {
  return {
    experts: moe.experts.map((_, e) => ({ source: e, stagedAs: null })),
    routerRows: null,
    logicalToPhysical: null,
  };
}

/** The staged tensors take the place of the stored ones of the same names. */
function finished(moe: MoeDescription, stage: LayerStage): CompressedLayer & LayerStage {
  return { ...stage, staged: stage.tensors, replaced: new Set(stage.tensors.keys()), outcome: outcomeOf(moe) };
}

function stageInputs({ context, plan, options, widths, data }: NeuronsRun, layer: number): unknown {
  const { layers } = plan;
  return {
    ...{ version: 1, fingerprint: context.fingerprint, layer, method: plan.method, options, data },
    ...{ removed: layers[String(layer)]!.removed, widths: widths.get(layer)! },
    measured: context.sequences !== null,
  };
}
