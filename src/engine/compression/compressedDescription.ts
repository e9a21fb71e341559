import type { CompressionPlan } from "../../protocol/plan";
import type { CompressOptions } from "../../protocol/recipe";
import type { ModelDescription, MoeDescription } from "../model/description";
import { forecastOf } from "./methods";
import { narrowed } from "./neurons/narrow";
import { storedWidths } from "./neurons/narrowedConfig";
import { checkQuantisation } from "./quantising/checkQuantisation";
import { formOf, plannedExperts } from "./quantising/quantisedTensors";

/**
 * The teacher with as many experts and router rows as a plan leaves, or the method of `compress` where there is none yet.
 * @throws RerouteError `plan/invalid` for an impossible `keep`
 */
export function compressedDescription(
  teacher: ModelDescription,
  compress: CompressOptions,
  known: CompressionPlan | null,
): ModelDescription {
  return describedBy(teacher, known ?? forecastOf(compress.method).anyPlan(teacher, compress));
}

/** The teacher with as many experts and router rows as a plan leaves, in the form that it leaves them in. */
export function describedBy(teacher: ModelDescription, plan: CompressionPlan): ModelDescription {
  if (plan.paradigm === "quantisation") checkQuantisation(plan, teacher);
  const widths = plan.paradigm === "neurons" ? storedWidths(teacher, plan) : null;
  return {
    ...teacher,
    layers: teacher.layers.map((layer) => {
      const { feedForward: moe } = layer;
      if (moe.kind !== "moe") return layer;
      const { experts, rows } = countsOf(plan, layer.index, moe);
      const { weight, bias } = moe.router;
      const router = {
        ...moe.router,
        weight: { ...weight, shape: [rows, ...weight.shape.slice(1)] },
        bias: bias && { ...bias, shape: [rows] },
      };
      if (plan.paradigm === "quantisation") {
        return { ...layer, feedForward: { ...moe, experts: plannedExperts(formOf(plan, layer.index), moe) } };
      }
      const own = widths?.get(layer.index);
      const stay = moe.experts.slice(0, experts).map((expert, e) => (own ? narrowed(expert, own[e]!) : expert));
      const intermediateSize = own ? Math.max(...own) : moe.intermediateSize;
      const feedForward = { ...moe, router, numExperts: experts, experts: stay, intermediateSize };
      return { ...layer, feedForward };
    }),
  };
}

interface Counts {
  experts: number;
  rows: number;
}

function countsOf(plan: CompressionPlan, layer: number, moe: MoeDescription): Counts {
  const all = { experts: moe.numExperts, rows: moe.router.weight.shape[0]! };
  if (plan.paradigm === "pruning") {
    const { kept, replaceByConstant } = plan.layers[String(layer)] ?? { kept: null };
    return kept ? { experts: kept.length, rows: replaceByConstant ? all.rows : kept.length } : all;
  }
  if (plan.paradigm !== "merging" || plan.router === "duplicate") return all;
  const groups = plan.layers[String(layer)]?.groups.length;
  return groups === undefined ? all : { experts: groups, rows: plan.router === "map" ? all.rows : groups };
}
