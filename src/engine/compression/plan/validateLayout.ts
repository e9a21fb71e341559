import { replacesByConstants } from "../pruning/constants";
import { requireSeparateExperts } from "../editing/factoredTensors";
import { expertViews, requirePlain } from "../layer/expertMatrices";
import { appliedMergeOptions } from "../merging/options";
import { widthOf } from "../neurons/narrowedConfig";
import type { CompressionPlan } from "../../../protocol/plan";
import { neuronMethods, paradigmOf, quantisationMethods, sparsityMethods } from "../../../protocol/methods";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription } from "../../model/description";
import { RerouteError } from "../../../protocol/errors";
import { moeLayers } from "../../model/moeLayers";

/** What a compression needs of the way experts are stored. */
export interface LayoutNeeds {
  /** For messages. */
  method: string;
  /** New weights are made, so quantised ones cannot be kept. */
  makesWeights: boolean;
  /** Each expert has tensors of its own: for factors or constants in their place. */
  separate: "factors" | "constants" | null;
  /** What a layer's merge changes is added to the hidden states that later layers see. */
  passesOn: boolean;
}

/** What these methods look at is what experts give for inputs as they are. */
const runsExperts: readonly string[] = [
  "cfes",
  "naee",
  "svd-llm",
  "sparsegpt",
  "td-moe",
  "d2-moe",
  "m-smoe",
  "hc-smoe",
  "ream",
];

/** Methods that look at one expert at a time, however wide it is. */
const takesAnyWidth: readonly string[] = [...sparsityMethods, ...neuronMethods, ...quantisationMethods];

export function layoutNeedsOf(compress: CompressOptions): LayoutNeeds {
  const { method, options, keep } = compress;
  const changes = keep !== 1 || paradigmOf(method) === "quantisation";
  const factored = paradigmOf(method) === "editing" && options["output"] === "factored";
  return {
    method,
    makesWeights: changes && paradigmOf(method) !== "pruning" && paradigmOf(method) !== "router",
    separate: changes && factored ? "factors" : method === "mone" ? "constants" : null,
    passesOn:
      method === "ream" || options["sequential"] === true || (method === "gptq" && options["sequential"] !== false),
  };
}

export function layoutNeedsOfPlan(plan: CompressionPlan): LayoutNeeds {
  const { method } = plan;
  switch (plan.paradigm) {
    case "router":
      return { method, makesWeights: false, separate: null, passesOn: false };
    case "pruning":
      return {
        ...{ method, makesWeights: false, passesOn: false },
        separate: replacesByConstants(plan) ? "constants" : null,
      };
    case "merging":
      return {
        method,
        makesWeights: Object.values(plan.layers).some(({ groups }) => groups.some((g) => g.members.length > 1)),
        separate: null,
        passesOn: appliedMergeOptions(plan).sequential,
      };
    case "sparsity": {
      const makesWeights = Object.values(plan.layers).some(({ keep }) => keep.some((share) => share < 1));
      return { method, makesWeights, separate: null, passesOn: plan.options?.["sequential"] === true };
    }
    case "quantisation":
      return {
        ...{ method, makesWeights: true, separate: null },
        passesOn: method === "gptq" && plan.options?.["sequential"] !== false,
      };
    case "neurons": {
      const makesWeights = Object.values(plan.layers).some(({ removed }) => removed.some(({ length }) => length > 0));
      return { method, makesWeights, separate: null, passesOn: false };
    }
    case "editing": {
      const edits = Object.values(plan.layers).some(({ ranks }) => Object.values(ranks).some((rank) => rank > 0));
      return {
        ...{ method, makesWeights: edits, passesOn: false },
        separate: edits && plan.output === "factored" ? "factors" : null,
      };
    }
  }
}

/**
 * Refuses storage that a method cannot write back, before any work: weights to be made where they are quantised or
 * already factored, and one tensor an expert where they are fused.
 * @throws RerouteError model/unsupported-option
 */
export function validateLayout(needs: LayoutNeeds, description: ModelDescription): void {
  const { method, makesWeights, separate, passesOn } = needs;
  if (passesOn) requireSums(method, description);
  for (const { layer, moe } of moeLayers(description)) {
    if (moe.weightsInput && runsExperts.includes(method)) {
      throw new RerouteError(
        "model/unsupported-option",
        `The method ${method} compares experts on the same inputs, while in layer ${layer} routing weights multiply what each ` +
          `expert reads. Use a pruning criterion, svd or mobe`,
      );
    }
    const isUneven = moe.experts.some((expert, e) => !expert.constant && widthOf(moe, e) !== moe.intermediateSize);
    if (makesWeights && isUneven && !takesAnyWidth.includes(method)) {
      throw new RerouteError(
        "model/unsupported-option",
        `The method ${method} needs experts of one width, but those of layer ${layer} differ; use a pruning criterion, neurons, or a method that zeroes weights`,
      );
    }
    if (makesWeights)
      moe.experts.forEach((expert) => expertViews(expert).forEach((view) => requirePlain(view, method)));
    if (separate === "factors") requireSeparateExperts(moe, layer);
    if (separate === "constants" && moe.storage.kind !== "per-expert") {
      throw new RerouteError(
        "model/unsupported-option",
        `The method ${method} replaces experts of layer ${layer} by constants, which needs one tensor an expert; this layer's ` +
          `are fused. Use another pruning method`,
      );
    }
  }
}

/**
 * Refuses layers behind whose experts stands more than a sum, where the change of a merge is added to the hidden states.
 * @throws RerouteError model/unsupported-option
 */
export function requireSums(method: string, { layers, family }: ModelDescription): void {
  const other = layers.find(
    ({ feedForward, feedForwardOutputNorm, scalar }) =>
      feedForward.kind === "moe" &&
      (feedForwardOutputNorm !== null || scalar !== undefined || feedForward.routedNorm !== undefined),
  );
  if (other === undefined) return;
  throw new RerouteError(
    "model/unsupported-option",
    `Layer ${other.index} of this ${family} checkpoint normalises or scales what its experts give, so ` +
      `${method} cannot pass on to later layers what it changes. Use m-smoe or hc-smoe, or sequential=false in the options of a plan`,
  );
}
