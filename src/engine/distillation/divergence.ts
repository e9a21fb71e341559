import { RerouteError } from "../../protocol/errors";
import type { DivergenceKind } from "../../protocol/recipe";
import type { Divergence } from "../graph/blocks/divergence";

/** Where no mix is named: TRL's for jsd, DistiLLM's (arXiv 2402.03898) for the skewed ones. Forward and reverse have none. */
const usualMix: Readonly<Record<DivergenceKind, number | null>> = {
  forward: null,
  reverse: null,
  jsd: 0.5,
  "skew-forward": 0.1,
  "skew-reverse": 0.1,
};

/**
 * A divergence with its mix; forward and reverse, which have none, leave a given one out.
 * @throws RerouteError arguments/invalid where the mix is 0 or 1: what is meant is forward or reverse, and the limit of
 *   jsd there has a gradient of 0
 */
export function divergenceOf(kind: DivergenceKind, mix: number | undefined): Divergence {
  const usual = usualMix[kind];
  if (usual === null) return { kind, mix: 0 };
  const used = mix ?? usual;
  if (used > 0 && used < 1) return { kind, mix: used };
  throw new RerouteError(
    "arguments/invalid",
    `The divergence ${kind} mixes both distributions by ${used}, expected a number between 0 and 1, neither included; for the ends use forward or reverse`,
  );
}
