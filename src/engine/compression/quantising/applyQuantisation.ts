import { throwIfCancelled } from "../../../protocol/errors";
import type { QuantisationPlan } from "../../../protocol/plan";
import type { CollectedLayer } from "../../execution/collectLayers";
import { MatrixProducts } from "../../linalg/products";
import type { MoeDescription } from "../../model/description";
import type { CompressedLayer } from "../layer/compressedTensors";
import { readExpert } from "../layer/expertMatrices";
import { LayerEngine } from "../layer/layerEngine";
import { passOn, relativeOutputError } from "../layer/outputError";
import { LayerStages, type LayerStage } from "../layer/stage";
import type { LayerOutcome } from "../layer/stagedExperts";
import { calibrationOf, collect, hashSequences, type MethodContext } from "../methodContext";
import { moeLayers } from "../../model/moeLayers";
import { requireSums } from "../plan/validateLayout";
import { LayerHessians } from "./hessians";
import { appliedQuantisationOptions, type AppliedQuantisationOptions } from "./options";
import { quantiseExpert, type ExpertReport } from "./quantiseExpert";
import { checkLayer, formOf, quantisedLayer, quantisedTensors, replacedWeights, scaleTypeOf } from "./quantisedTensors";

/** Whether applying the plan looks at activations. */
export function quantisationNeedsText({ method }: QuantisationPlan): boolean {
  return method === "gptq" || method === "awq";
}

interface QuantisationRun {
  context: MethodContext;
  plan: QuantisationPlan;
  options: AppliedQuantisationOptions;
  stages: LayerStages;
  products: MatrixProducts;
  data: string | null;
}

/** Quantises every layer's experts, one at a time, staged on disk as they will be stored. */
export async function applyQuantisation(
  context: MethodContext,
  plan: QuantisationPlan,
): Promise<Map<number, CompressedLayer & LayerStage>> {
  const options = { ...appliedQuantisationOptions(plan) };
  options.sequential &&= plan.method === "gptq";
  const layers = moeLayers(context.description);
  for (const { layer, moe } of layers) checkLayer(formOf(plan, layer), layer, moe);
  if (options.sequential) requireSums(plan.method, context.description);
  const run: QuantisationRun = {
    ...{ context, plan, options },
    stages: new LayerStages(context.stateDirectory),
    products: new MatrixProducts(context.runtime),
    data: quantisationNeedsText(plan) ? hashSequences(calibrationOf(context, options.sequences)) : null,
  };
  const done = new Map<number, CompressedLayer & LayerStage>();
  try {
    for (const { layer, moe } of layers) {
      const stage = await run.stages.find(layer, stageInputs(run, layer));
      if (stage) done.set(layer, finished(moe, stage));
    }
    if (done.size === layers.length) return done;
    if (run.data === null) {
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
  run: QuantisationRun,
  layer: number,
  moe: MoeDescription,
  collected: CollectedLayer | null,
): Promise<CompressedLayer & LayerStage> {
  const { context, plan, options, stages, products } = run;
  const { checkpoint } = context;
  const form = formOf(plan, layer);
  const engine = new LayerEngine(context.runtime, checkpoint, context.description.hiddenSize);
  const runnable = (staged: LayerStage["tensors"]) => ({
    ...quantisedLayer(checkpoint, form, moe, staged),
    ...{ outcome: sameExperts(moe), name: "quantised" },
  });
  try {
    let stage = await stages.find(layer, stageInputs(run, layer));
    if (stage === null) {
      const hessians = collected && new LayerHessians(engine, collected, options.hessian, options.gramMix);
      const reports = new Map<number, ExpertReport>();
      const scaleType = scaleTypeOf(moe);
      const make = async (e: number) => {
        throwIfCancelled(context.signal);
        const expert = await readExpert(checkpoint, moe.experts[e]!, `expert ${e} of layer ${layer}`);
        // Nothing is known of what an expert sees that no token is routed to.
        const seen = hessians !== null && hessians.routed(e) > 0 ? await hessians.of(e, expert) : null;
        const request = { method: plan.method, form, scaleType, options, products, hessians: seen };
        const { quantised, report } = await quantiseExpert(expert, request);
        if (report) reports.set(e, report);
        return quantised;
      };
      stage = await stages.write(
        layer,
        stageInputs(run, layer),
        quantisedTensors(form, moe, make),
        async (staged) => {
          const metrics = lossMetrics([...reports.values()]);
          if (collected) metrics["outputError"] = await relativeOutputError(engine, collected, runnable(staged));
          return { notes: hessians ? neverRoutedNotes(hessians, layer, moe) : [], metrics };
        },
        context.signal,
      );
    }
    if (options.sequential && collected) await passOn(engine, collected, runnable(stage.tensors));
    return finished(moe, stage);
  } finally {
    await engine.close();
  }
}

/** Loss over that of the nearest codes, in the outputs of the tokens seen, and matrices that kept the nearest codes. */
function lossMetrics(reports: readonly ExpertReport[]): Record<string, number> {
  const sum = (key: keyof ExpertReport) => reports.reduce((total, report) => total + report[key], 0);
  if (reports.length === 0 || sum("nearestLoss") === 0) return {};
  return { lossOfNearest: sum("loss") / sum("nearestLoss"), keptNearest: sum("keptNearest") };
}

function finished(moe: MoeDescription, stage: LayerStage): CompressedLayer & LayerStage {
  return { ...stage, staged: stage.tensors, outcome: sameExperts(moe), replaced: replacedWeights(moe) };
}

function sameExperts({ experts }: MoeDescription): LayerOutcome {
  return {
    experts: experts.map((_, e) => ({ source: e, stagedAs: null })),
    routerRows: null,
    logicalToPhysical: null,
  };
}

function neverRoutedNotes(hessians: LayerHessians, layer: number, { numExperts }: MoeDescription): string[] {
  const unused = Array.from({ length: numExperts }, (_, e) => e).filter((e) => hessians.routed(e) === 0);
  if (unused.length === 0) return [];
  return [
    `layer ${layer}: ${unused.length} of ${numExperts} experts never routed by ${hessians.collected.numTokens} calibration tokens ` +
      `(${unused.join(", ")}); each of their weights goes to the nearest code`,
  ];
}

function stageInputs({ context, plan, options, data }: QuantisationRun, layer: number): unknown {
  const { method, format, layers } = plan;
  return {
    ...{ version: 1, fingerprint: context.fingerprint, layer, method, format, options, data },
    own: layers[String(layer)]!,
    earlier: options.sequential ? Object.entries(layers).filter(([other]) => Number(other) < layer) : [],
  };
}
