import { RerouteError } from "../../../protocol/errors";
import type { NeuronsPlan } from "../../../protocol/plan";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import { predictionLayers } from "../plan/predictionLayers";
import { noCost, outputErrorCost, touch, type MethodForecast } from "../cost/layerCost";
import { neuronsOptions, type NeuronOptions } from "./options";
import { searchPasses } from "../budgets/searchPasses";
import { defaultMultiple, keptWidth } from "./widths";

export const neuronsForecast: MethodForecast = {
  // A backward pass costs about two forward ones, the activations that it needs again included.
  passes: (options) =>
    (options["score"] === "heapr" ? 3 : 1) + (options["budget"] === "evoesap" ? searchPasses(options, 64) : 0),
  sequences: 64,
  layer: ({ K, k, T, H, I, weights }, { score, repair }) => {
    const cost = { ...noCost, workingBytes: 4 * 3 * weights };
    cost.plain = K * weights * touch * 3 + k * T * (H + 4 * I);
    cost.float32 = k * T * 4 * H * I + outputErrorCost({ k, T, weights });
    if (score === "heapr") cost.float32 += k * T * 2 * H * I;
    if (repair === true) {
      cost.float32 += k * T * (4 * H * I + 2 * I * I);
      cost.float64 = K * (2 * I ** 3 + 4 * H * I * I);
      cost.workingBytes += 8 * (4 * I * I + 3 * H * I);
    }
    return cost;
  },
  anyPlan: anyNeuronsPlan,
};

/** As planNeurons, whichever units leave: what is scored does not change sizes of uniform plans, nor totals of others. */
export function anyNeuronsPlan(description: ModelDescription, compress: CompressOptions): NeuronsPlan {
  requireNeurons(description);
  const parsed = neuronsOptions.safeParse(compress.options);
  const options = parsed.success ? parsed.data : neuronsOptions.parse({});
  const wanted = wantedWidths(description, compress, options);
  const layers = moeLayers(description).map(({ layer, moe }, i) => {
    const unit = (_: unknown, j: number) => wanted[i]! + j;
    const one = Array.from({ length: moe.intermediateSize - wanted[i]! }, unit);
    return [String(layer), { removed: moe.experts.map(() => one) }] as const;
  });
  const { width, form } = options;
  const about = { schemaVersion: 1, paradigm: "neurons", method: compress.method } as const;
  return { ...about, width, form, layers: Object.fromEntries(layers) };
}

/** Mean width of each layer's experts. @throws RerouteError plan/invalid */
export function wantedWidths(
  description: ModelDescription,
  { keep }: Pick<CompressOptions, "keep">,
  options: NeuronOptions,
): number[] {
  if (keep > 1) {
    throw new RerouteError(
      "plan/invalid",
      `keep is ${keep}, but the method neurons keeps every expert and narrows it; give a share up to 1`,
    );
  }
  if (options.budget === "evoesap" && options.width !== "layer") {
    throw new RerouteError(
      "arguments/invalid",
      `budget is evoesap and width ${options.width}, but the search gives each layer's experts one width; use width=layer` +
        (options.width === "expert" ? ": widths of single experts are too many to search" : ""),
    );
  }
  return moeLayers(description).map(({ moe: { intermediateSize: I } }) => {
    if (options.width !== "expert") return keptWidth(keep, I, multipleOf(options, I));
    const width = Math.round(keep * I);
    if (width < 1)
      throw new RerouteError(
        "plan/invalid",
        `keep ${keep} keeps none of ${I} intermediate units; keep at least ${(1 / I).toPrecision(2)}`,
      );
    return width;
  });
}

export function multipleOf({ multiple }: NeuronOptions, width: number): number {
  return multiple === 0 ? defaultMultiple(width) : multiple;
}

/**
 * Refuses models whose experts cannot be narrowed.
 * @throws RerouteError model/unsupported-option
 */
export function requireNeurons(description: ModelDescription): void {
  const [prediction] = predictionLayers(description);
  if (prediction) {
    throw new RerouteError(
      "model/unsupported-option",
      `Layer ${prediction.layer} predicts further tokens and has experts of the same width, which no calibration text reaches; ` +
        `the method neurons cannot narrow them. Use a pruning criterion, or zero weights (wanda)`,
    );
  }
  for (const { layer, moe } of moeLayers(description)) {
    if (moe.experts.some(({ constant }) => constant)) {
      throw new RerouteError(
        "model/unsupported-option",
        `Layer ${layer} has constant experts, which have no units; the method neurons does not narrow such a layer`,
      );
    }
  }
}
