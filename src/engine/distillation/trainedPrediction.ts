import { RerouteError } from "../../protocol/errors";
import type { CompressionPlan } from "../../protocol/plan";
import { paradigmOf, type CompressOptions, type Recipe } from "../../protocol/recipe";
import { compressedDescription } from "../compression/compressedDescription";
import { trainableWeights } from "./scope";
import { trainedNames } from "./trainedNames";
import type { TrainedSizes } from "../execution/workingSet";
import { trainedSizes } from "../execution/trainedSizes";
import type { ModelDescription } from "../model/description";
import { elementCount } from "../tensor/dtype";

/** What a recipe's calibration may change, before there is a student. */
export interface TrainedPrediction {
  scope: string;
  /** Numbers that train. */
  parameters: number;
  /** Names of the tensors; with the scope router+top-experts all that can be among them. */
  tensors: string[];
  /** What they take in memory; undefined where only routers train. */
  sizes: TrainedSizes | undefined;
  /** Router logits a token, over all layers. */
  routerLogits: number;
}

/**
 * Predicts it from the student, or from the teacher and how it is compressed.
 * @throws RerouteError what trainableWeights and keptCount raise; model/unsupported-option for a factored student
 */
export function predictTrained(
  { calibrate, compress }: Pick<Recipe, "calibrate" | "compress">,
  teacher: ModelDescription,
  student: ModelDescription | null,
  plan: CompressionPlan | null,
): TrainedPrediction | null {
  if (!calibrate) return null;
  const { scope, topExperts } = calibrate;
  const model = student ?? (compress ? compressedDescription(teacher, compress, plan) : teacher);
  const isFactored = plan ? plan.paradigm === "editing" && plan.output === "factored" : writesFactors(compress);
  if (scope !== "router" && student === null && isFactored) {
    throw new RerouteError(
      "model/unsupported-option",
      `The scope ${scope} would change experts that compression writes in factors; calibrate the routers (scope router), or compress with output=dense`,
    );
  }
  // Which experts are used most is not known yet, but all are of one size.
  const some = new Map(model.layers.map(({ index }) => [index, Array.from({ length: topExperts }, (_, e) => e)]));
  const weights = trainableWeights(model, scope, some);
  const sizes = trainedSizes(model, new Set(weights.map(({ key }) => key)));
  const named = scope === "router+top-experts" ? trainableWeights(model, "router+experts") : weights;
  return {
    scope,
    parameters: weights.reduce((sum, { view }) => sum + elementCount(view.shape), 0),
    tensors: trainedNames(named, model),
    sizes,
    routerLogits: model.layers.reduce(
      (sum, { feedForward }) => sum + (feedForward.kind === "moe" ? feedForward.router.weight.shape[0]! : 0),
      0,
    ),
  };
}

function writesFactors(compress: CompressOptions | undefined): boolean {
  return compress?.options["output"] === "factored" && paradigmOf(compress.method) === "editing";
}
