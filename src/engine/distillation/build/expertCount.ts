import { RerouteError } from "../../../protocol/errors";
import type { MoeDescription } from "../../model/description";

/**
 * Experts that a layer's dense MLP is made of.
 * @param asked undefined: as many as a token goes to
 * @throws RerouteError arguments/invalid for more than there are; model/unsupported-option for a merged router with a map
 */
export function expertCountOf(
  { numExpertsPerToken, numExperts, logicalToPhysical }: MoeDescription,
  layer: number,
  asked: number | undefined,
): number {
  if (logicalToPhysical !== null) {
    throw new RerouteError(
      "model/unsupported-option",
      `Layer ${layer} of this checkpoint was merged with a map of its router's rows; build the student from the original teacher`,
    );
  }
  const count = asked ?? numExpertsPerToken;
  if (count <= numExperts) return count;
  throw new RerouteError(
    "arguments/invalid",
    `${count} experts were asked for, but layer ${layer} has ${numExperts}; choose at most ${numExperts}`,
  );
}
