import { RerouteError } from "../../protocol/errors";
import type { CompressionPlan } from "../../protocol/plan";
import { paradigmOf } from "../../protocol/methods";
import type { CompressOptions, Recipe } from "../../protocol/recipe";
import { compressedDescription } from "../compression/compressedDescription";
import { checkRouterGroup } from "../compression/routers/routerPruning";
import { trainableWeights } from "./scope";
import { trainedNames } from "./trainedNames";
import type { TrainedSizes } from "../execution/workingSet";
import { trainedSizes } from "../execution/trainedSizes";
import type { ModelDescription } from "../model/description";
import { moeLayers } from "../model/moeLayers";
import { hasExperts } from "../model/requireExperts";
import { divergenceOf } from "./divergence";
import { checkOnPolicy } from "./onPolicyOptions";
import { checkMatchOptions } from "./match/matchMapping";
import { teacherRoutes } from "./teacherRouting";
import { elementCount } from "../tensor/dtype";

type Calibrate = NonNullable<Recipe["calibrate"]>;

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
  { calibrate, compress, data }: Pick<Recipe, "calibrate" | "compress" | "data">,
  teacher: ModelDescription,
  student: ModelDescription | null,
  plan: CompressionPlan | null,
): TrainedPrediction | null {
  if (!calibrate) return null;
  const { scope, topExperts } = calibrate;
  teacherRoutes(calibrate.teacherRouting, teacher, 0);
  checkRoutingFits(calibrate);
  checkMatchOptions(calibrate);
  checkOnPolicy(calibrate, data.sequenceLength);
  checkQuantisedTraining(calibrate);
  divergenceOf(calibrate.divergence ?? "forward", calibrate.mix);
  const model = student ?? (compress ? compressedDescription(teacher, compress, plan) : teacher);
  const isFactored = plan ? plan.paradigm === "editing" && plan.output === "factored" : writesFactors(compress);
  if (scope !== "router" && student === null && isFactored) {
    throw new RerouteError(
      "model/unsupported-option",
      `The scope ${scope} would change experts that compression writes in factors; calibrate the routers (scope router), or compress with output=dense`,
    );
  }
  if (!hasExperts(model)) checkDenseOptions(model, calibrate);
  if (calibrate.routerBits !== undefined)
    for (const { moe } of moeLayers(model))
      checkRouterGroup(calibrate.routerGroup ?? 0, moe.router.weight.shape[1] as number);
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

/** Routers that train with the student need a student that is compared. @throws RerouteError arguments/invalid */
function checkRoutingFits({ teacherRouting, loss, initialise }: Calibrate): void {
  if (teacherRouting?.kind !== "student-aware") return;
  if (loss !== "lm" && loss !== "router-logits" && initialise === "none") return;
  const found = initialise === "none" ? `the loss ${loss}` : `initialise ${initialise}`;
  throw new RerouteError(
    "arguments/invalid",
    `The teacher routing student-aware trains the teacher's routers on its divergence from the student, which ${found} does not have; use the loss kd or kd+lm, and no initialisation`,
  );
}

/** Options that would be without effect. @throws RerouteError arguments/invalid */
function checkQuantisedTraining({ scope, scaleLearningRate, routerBits, routerGroup }: Calibrate): void {
  if (scaleLearningRate !== undefined && scope !== "router+scales")
    throw new RerouteError(
      "arguments/invalid",
      `scaleLearningRate is the learning rate of scales, which the scope ${scope} leaves as they are; use the scope router+scales, or leave it out`,
    );
  if (routerGroup !== undefined && routerBits === undefined)
    throw new RerouteError(
      "arguments/invalid",
      "routerGroup says which inputs of a rounded router share a scale, and routers are not rounded; name their width with routerBits, or leave it out",
    );
}

/** What a dense student cannot be asked for. @throws RerouteError arguments/invalid */
function checkDenseOptions({ family }: ModelDescription, { scope, loss, initialise, routerBits }: Calibrate): void {
  const student = `this ${family} student is dense: it has no routers`;
  if (scope !== "all" && scope !== "feed-forward")
    throw new RerouteError("arguments/invalid", `The scope is ${scope}, but ${student}; use feed-forward or all`);
  if (loss === "router-logits" || initialise === "router-logits")
    throw new RerouteError("arguments/invalid", `Router logits were to be matched, but ${student}; use the loss kd`);
  if (routerBits !== undefined)
    throw new RerouteError("arguments/invalid", `Routers were to be rounded, but ${student}; leave routerBits out`);
}

function writesFactors(compress: CompressOptions | undefined): boolean {
  return compress?.options["output"] === "factored" && paradigmOf(compress.method) === "editing";
}
