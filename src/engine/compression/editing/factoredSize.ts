import type { EditingPlan } from "../../../protocol/plan";
import type { ModelDescription } from "../../model/description";
import { projectionShape, projections, type Projection } from "../layer/expertMatrices";
import { moeLayers } from "../../model/moeLayers";
import { tuckerParameters } from "./ranks";

/** A projection of all experts of a layer that a plan stores as factors. */
export interface FactoredProjection {
  layer: number;
  projection: Projection;
  /** Stored numbers of all its factors, shared ones included. */
  parameters: number;
}

/** What a plan with factored output stores in place of whole matrices. Projections that it leaves alone are not listed. */
export function factoredProjections(plan: EditingPlan, description: ModelDescription): FactoredProjection[] {
  if (plan.output !== "factored") return [];
  return moeLayers(description).flatMap(({ layer, moe }) =>
    projections.flatMap((projection): FactoredProjection[] => {
      const [m, n] = projectionShape({ ...moe, hiddenSize: description.hiddenSize }, projection);
      const { ranks } = plan.layers[String(layer)]!;
      const parameters = sizeOf(plan, projection, ranks, moe.numExperts, m, n);
      return parameters === 0 ? [] : [{ layer, projection, parameters }];
    }),
  );
}

function sizeOf(
  { method }: EditingPlan,
  projection: Projection,
  ranks: Readonly<Record<string, number>>,
  K: number,
  m: number,
  n: number,
): number {
  const of = (part: string) => ranks[`${projection}.${part}`] ?? 0;
  if (method === "td-moe") {
    const [r1, r2, r3] = [of("experts"), Math.min(m, of("outputs")), Math.min(n, of("inputs"))];
    return r1 * r2 * r3 === 0 ? 0 : tuckerParameters(K, m, n, r1, r2, r3);
  }
  const rank = ranks[projection] ?? 0;
  if (rank === 0) return 0;
  if (method === "mobe") {
    if (projection === "downProj") return 0;
    const [r, bases] = [Math.min(rank, n), of("bases") || 2];
    return K * (m * r + bases) + bases * r * n;
  }
  const r = Math.min(rank, m, n);
  return K * r * (m + n) + (method === "d2-moe" ? m * n : 0);
}
