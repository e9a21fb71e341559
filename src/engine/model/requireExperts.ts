import { RerouteError } from "../../protocol/errors";
import type { ModelDescription } from "./description";

/**
 * Refuses a dense model where experts are needed.
 * @param purpose what is to be done with it, for the message
 * @throws RerouteError `model/not-moe`
 */
export function requireExperts({ family, layers }: ModelDescription, purpose: string): void {
  if (hasExperts({ layers })) return;
  throw new RerouteError(
    "model/not-moe",
    `This ${family} checkpoint is a dense model: none of its ${layers.length} layers has experts, so there is nothing to ${purpose}; inspect, forward and evaluate read it`,
  );
}

/** Whether some layer has experts. */
export function hasExperts({ layers }: Pick<ModelDescription, "layers">): boolean {
  return layers.some(({ feedForward }) => feedForward.kind === "moe");
}
