import { RerouteError } from "../../../protocol/errors";
import type { EditingPlan } from "../../../protocol/plan";
import type { MoeDescription } from "../../model/description";

/** What a rank may be called: a projection, or a part of one that a method factorises apart. */
const rankName = /^(gateProj|upProj|downProj)(\.(bases|experts|outputs|inputs))?$/;

/**
 * Refuses ranks that a layer's matrices cannot have.
 * @throws RerouteError `plan/invalid`
 */
export function validateEditedLayer(plan: EditingPlan, layer: number, moe: MoeDescription): void {
  for (const [name, rank] of Object.entries(plan.layers[String(layer)]!.ranks)) {
    const match = rankName.exec(name);
    if (match === null) {
      throw invalid(
        `The plan gives a rank for ${JSON.stringify(name)} in layer ${layer}; ranks are for gateProj, upProj, downProj`,
      );
    }
    const part = match[2];
    if ((part === "bases" || part === "experts") && rank > moe.numExperts) {
      throw invalid(`The plan asks for ${rank} ${name} in layer ${layer}, which has ${moe.numExperts} experts`);
    }
  }
}

function invalid(message: string): RerouteError {
  return new RerouteError("plan/invalid", message);
}
