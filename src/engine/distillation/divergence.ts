import { RerouteError } from "../../protocol/errors";
import type { DivergenceKind } from "../../protocol/calibrateOptions";
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
 * A divergence with its mix.
 * @throws RerouteError arguments/invalid where forward or reverse, which have none, are given one; and where it is 0 or 1:
 *   what is meant is forward or reverse, and the limit of jsd there has a gradient of 0
 */
export function divergenceOf(kind: DivergenceKind, mix: number | undefined): Divergence {
  const usual = usualMix[kind];
  if (usual === null) {
    if (mix === undefined) return { kind, mix: 0 };
    throw new RerouteError(
      "arguments/invalid",
      `The divergence ${kind} compares both distributions as they are, and mix ${mix} was given; leave mix out, or name jsd, skew-forward or skew-reverse`,
    );
  }
  const used = mix ?? usual;
  if (used > 0 && used < 1) return { kind, mix: used };
  throw new RerouteError(
    "arguments/invalid",
    `The divergence ${kind} mixes both distributions by ${used}, expected a number between 0 and 1, neither included; for the ends use forward or reverse`,
  );
}
