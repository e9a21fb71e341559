import { RerouteError } from "../../../protocol/errors";
import type { CompressionPlan } from "../../../protocol/plan";
import { paradigmOf, type CompressOptions, type Recipe } from "../../../protocol/recipe";
import { withoutGroupLimits } from "../../compression/plan/groupLimits";
import { keptCount } from "../../compression/plan/keptCount";
import { trainableWeights } from "../../distillation/scope";
import { trainedNames } from "../../distillation/trainedNames";
import type { TrainedSizes } from "../../execution/workingSet";
import { trainedSizes } from "../../execution/trainedSizes";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { elementCount } from "../../tensor/dtype";

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
  const model = student ?? (compress ? compressed(teacher, compress, plan) : teacher);
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

/** The teacher with as many experts and router rows as compression leaves. */
function compressed(
  teacher: ModelDescription,
  compress: CompressOptions,
  plan: CompressionPlan | null,
): ModelDescription {
  return {
    ...teacher,
    layers: teacher.layers.map((layer) => {
      const { feedForward: moe } = layer;
      if (moe.kind !== "moe") return layer;
      const { experts, rows } = plan ? countsOfPlan(plan, layer.index, moe) : countsOf(compress, layer.index, moe);
      const { weight, bias } = moe.router;
      const router = {
        ...moe.router,
        weight: { ...weight, shape: [rows, ...weight.shape.slice(1)] },
        bias: bias && { ...bias, shape: [rows] },
      };
      const feedForward = { ...moe, router, numExperts: experts, experts: moe.experts.slice(0, experts) };
      return { ...layer, feedForward };
    }),
  };
}

interface Counts {
  experts: number;
  rows: number;
}

function countsOf({ method, keep, options, groupLimits }: CompressOptions, layer: number, moe: MoeDescription): Counts {
  const all = moe.router.weight.shape[0]!;
  if (paradigmOf(method) === "editing" || options["router"] === "duplicate")
    return { experts: moe.numExperts, rows: all };
  const kept = keptCount(keep, layer, groupLimits === "drop" ? withoutGroupLimits(moe) : moe);
  return { experts: kept, rows: method === "mone" || options["router"] === "map" ? all : kept };
}

function countsOfPlan(plan: CompressionPlan, layer: number, moe: MoeDescription): Counts {
  const all = { experts: moe.numExperts, rows: moe.router.weight.shape[0]! };
  if (plan.paradigm === "pruning") {
    const { kept, replaceByConstant } = plan.layers[String(layer)] ?? { kept: null };
    return kept ? { experts: kept.length, rows: replaceByConstant ? all.rows : kept.length } : all;
  }
  if (plan.paradigm === "editing" || plan.router === "duplicate") return all;
  const groups = plan.layers[String(layer)]?.groups.length;
  return groups === undefined ? all : { experts: groups, rows: plan.router === "map" ? all.rows : groups };
}
