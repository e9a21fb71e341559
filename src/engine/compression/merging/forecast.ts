import type { MergingPlan } from "../../../protocol/plan";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription } from "../../model/description";
import {
  noCost,
  numberOf,
  outputErrorCost,
  touch,
  type LayerCost,
  type LayerCostShape,
  type MethodForecast,
} from "../cost/layerCost";
import { groupsOf, keptAnyhow } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";
import type { MergeOptions, MergeRule } from "./mergeGroup";

/** What of a merge decides how much work it is. */
interface MergeWork {
  rule: MergeRule;
  alignment: MergeOptions["alignment"];
  /** Whether every expert sees every token, not only those routed to it. */
  everyExpert: boolean;
  /** REAM looks at its centroids' outputs again. */
  centroids: boolean;
}

type Options = CompressOptions["options"];
const ruleOf = (options: Options, otherwise: MergeRule) => (options["merge"] ?? otherwise) as MergeRule;
const alignmentOf = (options: Options) => (options["alignment"] ?? "none") as MergeOptions["alignment"];

export const hcSmoeForecast = mergeForecast({
  passes: () => 2,
  sequences: 32,
  lighter: [{ zipLimit: 8 }, { zipLimit: 4 }, { merge: "fix-dominant" }, { merge: "average" }],
  work: (options) => ({
    rule: ruleOf(options, "zipit"),
    alignment: alignmentOf(options),
    everyExpert: true,
    centroids: false,
  }),
});

export const mSmoeForecast = mergeForecast({
  passes: (options) => (options["merge"] === "least-squares" || options["alignment"] === "activations" ? 1 : 0),
  sequences: 32,
  work: (options) => ({
    rule: ruleOf(options, "average"),
    alignment: alignmentOf(options),
    everyExpert: false,
    centroids: false,
  }),
});

export const reamForecast = mergeForecast({
  passes: () => 1,
  sequences: 256,
  work: () => ({ rule: "average", alignment: "activations", everyExpert: true, centroids: true }),
});

function mergeForecast({
  work,
  ...rest
}: Pick<MethodForecast, "passes" | "sequences" | "lighter"> & {
  work: (options: Options) => MergeWork;
}): MethodForecast {
  return {
    ...rest,
    layer: (shape, options) => mergeCost(shape, options, work(options)),
    anyPlan: anyMergingPlan,
  };
}

function mergeCost(
  { moe, K, H, I, k, kept, T, weights }: LayerCostShape,
  options: CompressOptions["options"],
  { rule, alignment, everyExpert, centroids }: MergeWork,
): LayerCost {
  const merged = K - kept;
  // Of one routing group, everything else being groups of one.
  const mostMembers = merged / groupsOf(moe) + 1;
  // Members and their groups' first are read, added up and written.
  const touched = 2 * merged * weights;
  const cost = { ...noCost, plain: touched * touch, workingBytes: 8 * weights * 4 };
  // Routed tokens of the original and of the merged layer, and again of the original and of its dominant experts alone.
  const standsAlone = (options["router"] ?? "fold") === "fold" || groupsOf(moe) === 1;
  const comparisons = merged > 0 && standsAlone ? 2 : 1;
  cost.float32 += comparisons * outputErrorCost({ k, T, weights });
  if (everyExpert) cost.float32 += K * T * 2 * weights;
  if (centroids) cost.float32 += k * T * 2 * 2 * weights;
  if (alignment !== "none") {
    // Inner products of units, and an assignment of I units.
    cost.float32 += merged * (2 * I * I * 3 * H + (alignment === "activations" ? 512 * 2 * weights : 0));
    cost.plain += merged * I ** 3;
  }
  const perGroup = (T * k) / Math.max(1, kept);
  if (rule === "least-squares") {
    cost.float32 += (merged + kept) * perGroup * 4 * weights;
    cost.float64 += merged * 3 * I ** 3;
    cost.plain += merged * I * I * 48;
  }
  if (rule === "zipit" || rule === "fix-dominant") {
    const width =
      rule === "zipit" ? Math.min(numberOf(options, "zipLimit", 16), 1 + merged / Math.max(1, kept / 4)) * I : 2 * I;
    // Half of the Gram matrix, in blocks of two experts' units.
    cost.float32 += 2 * merged * perGroup * ((width * (width + I)) / 2 + 2 * weights);
    cost.plain += merged * width * width * (rule === "zipit" ? 60 : 10);
    const correlated = rule === "zipit" ? Math.min(numberOf(options, "zipLimit", 16), mostMembers) : 2;
    // A group's members and the expert made of them, f32; half of the Gram matrix of their units, f64, which becomes their correlation
    // row by row, and one block of it, f32, as the runtime gives it and as it is read.
    const held = (mostMembers + 2) * weights * 4 + 4 * (Math.max(2, correlated) * I) ** 2 + 8 * I ** 2;
    if (merged > 0) cost.workingBytes = Math.max(cost.workingBytes, held);
  }
  return cost;
}

/** All experts that leave in the first group: every grouping of as many groups has the same size. */
function anyMergingPlan(description: ModelDescription, compress: CompressOptions): MergingPlan {
  const { method, options } = compress;
  const kept = keptAnyhow(description, compress);
  const layers = moeLayers(description).map(({ layer, moe }) => {
    const stays = kept[String(layer)]!;
    const others = Array.from({ length: moe.numExperts }, (_, e) => e).filter((e) => !stays.includes(e));
    const groups = stays.map((dominant, i) => {
      const members = i === 0 ? [dominant, ...others].sort((a, b) => a - b) : [dominant];
      return { members, weights: members.map(() => 1 / members.length), dominant };
    });
    return [String(layer), { groups }];
  });
  const router = (options["router"] ?? "fold") as MergingPlan["router"];
  return {
    ...{ schemaVersion: 1, paradigm: "merging", method, alignment: "none", router },
    layers: Object.fromEntries(layers) as MergingPlan["layers"],
  };
}
