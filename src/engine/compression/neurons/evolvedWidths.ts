import { RerouteError } from "../../../protocol/errors";
import { contentKey } from "../../checkpoint/contentKey";
import { ModelExecutor } from "../../execution/modelExecutor";
import { moeLayers } from "../../model/moeLayers";
import { measuredSearch } from "../budgets/measuredSearch";
import { calibrationOf, type MethodContext } from "../methodContext";
import { widthOf } from "./narrowedConfig";
import { multipleOf } from "./forecast";
import type { NeuronOptions } from "./options";
import { highest, layerWidths, type ScoredLayer } from "./widths";

/**
 * The width of each layer's experts by an evolutionary search over all layers: which units of an expert stay at a width its scores
 * say, and a candidate runs with those that would leave at 0, which computes what the narrowed model would (before a refit of down
 * projections). It begins with `wanted` and with what the scores alone say.
 */
export async function evolvedWidths(
  context: MethodContext,
  scored: readonly ScoredLayer[],
  wanted: readonly number[],
  options: NeuronOptions,
): Promise<{ widths: number[]; note: string }> {
  const { checkpoint, description, runtime, stateDirectory, signal } = context;
  const layers = moeLayers(description);
  for (const { layer, moe } of layers) {
    if (moe.experts.every((_, e) => widthOf(moe, e) === moe.intermediateSize)) continue;
    throw new RerouteError(
      "model/unsupported-option",
      `Experts of layer ${layer} have different widths, and the search evoesap gives a layer's experts one; use width=expert, or budget=sensitivity`,
    );
  }
  const multiples = layers.map(({ moe }) => multipleOf(options, moe.intermediateSize));
  const widthsAt = (counts: readonly number[]) => counts.map((count, i) => count * multiples[i]!);
  const countsAt = (widths: readonly number[]) => widths.map((width, i) => Math.floor(width / multiples[i]!));
  const cost = (i: number, count: number) => layers[i]!.moe.numExperts * multiples[i]! * count;
  const start = [wanted, layerWidths(scored, wanted, multiples)].map(countsAt);
  const sequences = calibrationOf(context, options.searchSequences);
  const unitMasks = new Map<number, Float32Array>();
  const mask = (widths: readonly number[]) => {
    for (const [i, { layer, scores }] of scored.entries()) unitMasks.set(layer, unitMask(scores, widths[i]!));
  };
  mask(layers.map(({ moe }) => moe.intermediateSize));
  const executor = await ModelExecutor.open({
    ...{ checkpoint, description, runtime, sequenceLength: sequences.sequenceLength, unitMasks },
    ...{ scratchDirectory: stateDirectory, direction: "forward" },
  });
  try {
    const { counts, note } = await measuredSearch(context, {
      ...{ start, first: "one width", options, sequences, original: executor },
      space: {
        least: layers.map(() => 1),
        most: layers.map(({ moe }, i) => Math.floor(moe.intermediateSize / multiples[i]!)),
        ...{ cost, total: start[0]!.reduce((sum, count, i) => sum + cost(i, count), 0) },
      },
      decides: { units: contentKey(scored.map(({ scores }) => scores.map((own) => Array.from(own)))) },
      nameOf: widthsAt,
      run: (chosen, batch) => {
        mask(widthsAt(chosen));
        return executor.forward(batch, { signal });
      },
    });
    return { widths: widthsAt(counts), note };
  } finally {
    await executor.close();
  }
}

/** [experts, I] 1 for the `width` best units of each expert, 0 for the others. */
function unitMask(scores: readonly Float64Array[], width: number): Float32Array {
  const I = scores[0]!.length;
  const values = new Float32Array(scores.length * I);
  scores.forEach((own, e) => {
    for (const unit of highest(own, width)) values[e * I + unit] = 1;
  });
  return values;
}
