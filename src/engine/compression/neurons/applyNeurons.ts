import { throwIfCancelled } from "../../../protocol/errors";
import type { NeuronsPlan } from "../../../protocol/plan";
import { compressLayers, type LayerAtHand, type LayerWork, type StagedLayer } from "../layer/compressLayers";
import { routedTokens } from "../layer/expertInputs";
import { readExpert } from "../layer/expertMatrices";
import { inPlace } from "../layer/stagedExperts";
import { calibrationOf, hashSequences, type MethodContext } from "../methodContext";
import { cutExpert, repairedDown } from "./cutExpert";
import { narrowSources, narrowTensors, relocated, type ExpertParts } from "./narrow";
import { narrowedDescription, storedWidths } from "./narrowedConfig";
import { appliedNeuronOptions } from "./options";

/** Whether applying the plan looks at activations. */
export function neuronsNeedText(plan: NeuronsPlan): boolean {
  return appliedNeuronOptions(plan).repair && removesAny(plan);
}

/** Writes every layer's experts without the units that leave, staged on disk in the layout they were read in. */
export function applyNeurons(context: MethodContext, plan: NeuronsPlan): Promise<Map<number, StagedLayer>> {
  const options = appliedNeuronOptions(plan);
  narrowedDescription(context.checkpoint, context.family, context.description, plan);
  const widths = storedWidths(context.description, plan);
  const data = neuronsNeedText(plan) ? hashSequences(calibrationOf(context, options.sequences)) : null;
  const { method, layers } = plan;
  return compressLayers({
    ...{ context, sequences: options.sequences, readsText: context.sequences !== null, sequential: false },
    inputs: (layer) => ({
      ...{ version: 1, fingerprint: context.fingerprint, layer, method, options, data },
      ...{ removed: layers[String(layer)]!.removed, widths: widths.get(layer)! },
      measured: context.sequences !== null,
    }),
    prepare: (at) => prepare(context, plan, options.repair, widths.get(at.layer)!, at),
    // The staged tensors take the place of the stored ones of the same names.
    result: (_, moe, stage) => ({
      ...{ ...stage, staged: stage.tensors, outcome: inPlace(moe) },
      replaced: new Set(stage.tensors.keys()),
    }),
  });
}

function prepare(
  { checkpoint, signal }: MethodContext,
  plan: NeuronsPlan,
  repair: boolean,
  widths: readonly number[],
  { layer, moe, engine, products, collected }: LayerAtHand,
): LayerWork {
  const { removed } = plan.layers[String(layer)]!;
  const few: number[] = [];
  const routed = collected && routedTokens(collected);
  const make: ExpertParts = async (e, part) => {
    throwIfCancelled(signal);
    const expert = await readExpert(checkpoint, moe.experts[e]!, `expert ${e} of layer ${layer}`);
    const gone = new Set(removed[e]);
    const kept = Array.from({ length: expert.intermediateSize }, (_, unit) => unit).filter((unit) => !gone.has(unit));
    const result = cutExpert(expert, kept, widths[e]!);
    if (part === "gate and up" || !repair || collected === null || gone.size === 0) return result;
    const downProj = await repairedDown({ engine, products }, collected, routed![e]!, expert, kept, widths[e]!);
    if (downProj === null) few.push(e);
    return downProj === null ? result : { ...result, downProj };
  };
  const changes = removesAny(plan);
  const tensors = changes ? narrowTensors(checkpoint, moe, widths) : [];
  return {
    tensors: narrowSources(moe, tensors, widths, make),
    runnable: (staged) =>
      changes
        ? {
            checkpoint: { ...checkpoint, tensors: new Map([...checkpoint.tensors, ...staged]) },
            ...{ moe: relocated(moe, tensors, widths), outcome: inPlace(moe), name: "narrow" },
          }
        : null,
    found: () => ({
      notes:
        few.length === 0
          ? []
          : [
              `layer ${layer}: ${few.length} of ${moe.numExperts} experts saw fewer calibration tokens than they keep units ` +
                `(${few.join(", ")}); their down projections are not refitted`,
            ],
    }),
  };
}

function removesAny({ layers }: NeuronsPlan): boolean {
  return Object.values(layers).some(({ removed }) => removed.some(({ length }) => length > 0));
}
