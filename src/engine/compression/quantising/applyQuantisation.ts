import { throwIfCancelled } from "../../../protocol/errors";
import type { QuantisationPlan } from "../../../protocol/plan";
import {
  compressLayers,
  neverRoutedNotes,
  type LayerAtHand,
  type LayerWork,
  type StagedLayer,
} from "../layer/compressLayers";
import { readExpert } from "../layer/expertMatrices";
import { inPlace } from "../layer/stagedExperts";
import { calibrationOf, hashSequences, type MethodContext } from "../methodContext";
import { requireSums } from "../plan/validateLayout";
import { checkQuantisation } from "./checkQuantisation";
import { LayerHessians } from "./hessians";
import { inputScales, rescaledTensors } from "./inputScales";
import { appliedQuantisationOptions, type AppliedQuantisationOptions } from "./options";
import { quantiseExpert, type ExpertReport } from "./quantiseExpert";
import { formOf, quantisedLayer, quantisedTensors, replacedWeights, scaleTypeOf } from "./quantisedTensors";

/** Whether applying the plan looks at activations. */
export function quantisationNeedsText({ method }: QuantisationPlan): boolean {
  return method === "gptq" || method === "awq";
}

/** Quantises every layer's experts, one at a time, staged on disk as they will be stored. */
export function applyQuantisation(context: MethodContext, plan: QuantisationPlan): Promise<Map<number, StagedLayer>> {
  const options = { ...appliedQuantisationOptions(plan) };
  options.sequential &&= plan.method === "gptq";
  checkQuantisation(plan, context.description);
  if (options.sequential) requireSums(plan.method, context.description);
  const data = quantisationNeedsText(plan) ? hashSequences(calibrationOf(context, options.sequences)) : null;
  const { method, format, layers } = plan;
  return compressLayers({
    ...{ context, sequences: options.sequences, readsText: data !== null, sequential: options.sequential },
    inputs: (layer) => ({
      ...{ version: 1, fingerprint: context.fingerprint, layer, method, format, options, data },
      own: widthsIn(layers, layer),
      earlier: options.sequential
        ? Object.keys(layers).flatMap((other) =>
            Number(other) < layer ? [[other, widthsIn(layers, Number(other))]] : [],
          )
        : [],
    }),
    prepare: (at) => prepare(context, plan, options, at),
    result: (_, moe, stage) => ({
      ...{ ...stage, staged: stage.tensors, outcome: inPlace(moe) },
      replaced: new Set([...replacedWeights(moe), ...stage.tensors.keys()]),
    }),
  });
}

async function prepare(
  { checkpoint, signal }: MethodContext,
  plan: QuantisationPlan,
  options: AppliedQuantisationOptions,
  { layer, moe, engine, products, collected }: LayerAtHand,
): Promise<LayerWork> {
  const form = formOf(plan, layer);
  const hessians = collected && new LayerHessians(engine, collected, options.hessian, options.gramMix);
  const scales =
    collected && hessians && plan.method === "awq" && options.gateUp
      ? await inputScales(checkpoint, collected, hessians, form, options)
      : null;
  const reports = new Map<number, ExpertReport>();
  const scaleType = scaleTypeOf(moe);
  const make = async (e: number) => {
    throwIfCancelled(signal);
    const expert = await readExpert(checkpoint, moe.experts[e]!, `expert ${e} of layer ${layer}`);
    // Nothing is known of what an expert sees that no token is routed to.
    const seen = hessians !== null && hessians.routed(e) > 0 ? await hessians.of(e, expert) : null;
    const stored = { format: form.format, grid: form.grid(e), scaleType };
    const request = { method: plan.method, ...stored, options, products, hessians: seen, inputScales: scales };
    const { quantised, report } = await quantiseExpert(expert, request);
    if (report) reports.set(e, report);
    return quantised;
  };
  return {
    tensors: [
      ...quantisedTensors(form, moe, make),
      ...(scales ? rescaledTensors(checkpoint, collected!.layer, moe, scales) : []),
    ],
    runnable: (staged) => ({
      ...quantisedLayer(checkpoint, form, moe, staged),
      ...{ outcome: inPlace(moe), name: "quantised" },
      ...(scales ? { inputScales: scales } : {}),
    }),
    found: () => ({
      metrics: lossMetrics([...reports.values()]),
      notes: collected ? neverRoutedNotes(collected, "each of their weights goes to the nearest code") : [],
    }),
  };
}

/** What of a layer's plan decides its bytes. */
function widthsIn(layers: QuantisationPlan["layers"], layer: number) {
  const { losses: _, ...widths } = layers[String(layer)]!;
  return widths;
}

/** Loss over that of the nearest codes, in the outputs of the tokens seen, and matrices that kept the nearest codes. */
function lossMetrics(reports: readonly ExpertReport[]): Record<string, number> {
  const sum = (key: keyof ExpertReport) => reports.reduce((total, report) => total + report[key], 0);
  if (reports.length === 0 || sum("nearestLoss") === 0) return {};
  return { lossOfNearest: sum("loss") / sum("nearestLoss"), keptNearest: sum("keptNearest") };
}
