import type { CompressionPlan } from "../../../protocol/plan";
import type { Provenance } from "../../../protocol/provenance";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";

/**
 * Student expert -> teacher expert ids, by layer number, as evaluation.json holds it. Without a plan (or after editing,
 * which keeps every expert) each expert stands for itself. A merged router that keeps all rows is its own axis.
 */
export function expertMapping(teacher: ModelDescription, plan: CompressionPlan | null): Record<string, number[][]> {
  return mappingOfMade(teacher, plan && { plan });
}

/**
 * The same of a checkpoint by its reroute.json. One that was compressed more than once stands, through what its plan was for,
 * for the teacher's experts.
 */
export function mappingOfMade(
  teacher: ModelDescription,
  made: Pick<Provenance, "plan" | "sourceExperts"> | null,
): Record<string, number[][]> {
  return Object.fromEntries(
    moeLayers(teacher).map(({ layer, moe }) => {
      const key = String(layer);
      const source = made?.sourceExperts?.[key] ?? Array.from({ length: moe.numExperts }, (_, e) => [e]);
      const own = mappingOf(made?.plan ?? null, key);
      const through = own?.map((experts) => [...new Set(experts.flatMap((expert) => source[expert] ?? []))]);
      return [key, through ?? source];
    }),
  );
}

function mappingOf(plan: CompressionPlan | null, layer: string): number[][] | null {
  switch (plan?.paradigm) {
    case "pruning":
      // A constant expert still stands for the original: the router has all its rows.
      if (plan.layers[layer]?.replaceByConstant === true) return null;
      return plan.layers[layer]?.kept.map((expert) => [expert]) ?? null;
    case "merging":
      return plan.router === "fold" ? (plan.layers[layer]?.groups.map(({ members }) => members) ?? null) : null;
    case "editing":
    case "sparsity":
    case "neurons":
    case "router":
    case "quantisation":
    case undefined:
      return null;
  }
}
