import { RerouteError } from "../../protocol/errors";
import type { TeacherRouting } from "../../protocol/calibrateOptions";
import { augmentedRouting, type ExpertSampler } from "../execution/expertSampler";
import { mostActiveExperts, withActiveExperts } from "../model/activeExperts";
import type { ModelDescription } from "../model/description";
import { keyedRandom } from "../tensor/random";

/** How the teacher routes for one set of targets. */
export interface TeacherRoute {
  description: ModelDescription;
  /** What tells its targets from those of the teacher's own routing; null: they are those. */
  key: Readonly<Record<string, number>> | null;
  /** Knowledge Augmentation: which draw of which seed. */
  draw: { lambda: number; seed: number; draw: number } | null;
}

/**
 * The routes whose targets a student learns from: one, or one for each draw. Student-aware routing begins as its number of
 * active experts; its routers train apart.
 *
 * @throws RerouteError what withActiveExperts raises; model/not-moe for a teacher without experts
 */
export function teacherRoutes(
  routing: TeacherRouting | undefined,
  description: ModelDescription,
  seed: number,
): [TeacherRoute, ...TeacherRoute[]] {
  if (routing === undefined || routing.kind === "own") return [{ description, key: null, draw: null }];
  const active = activeExperts(routing, description);
  const routed = withActiveExperts(description, active);
  if (routing.kind !== "augment") {
    return [{ description: routed, key: routed === description ? null : { active }, draw: null }];
  }
  refuseSampling(description);
  const { lambda, draws } = routing;
  const route = (draw: number): TeacherRoute => ({
    description: routed,
    key: { active, lambda, seed, draw },
    draw: { lambda, seed, draw },
  });
  return [route(0), ...Array.from({ length: draws - 1 }, (_, i) => route(i + 1))];
}

/** The number of active experts, where a recipe leaves it open: all but one of an augmented teacher, else all. */
export function activeExperts(
  routing: Exclude<TeacherRouting, { kind: "own" }>,
  description: ModelDescription,
): number {
  if (routing.active !== undefined) return routing.active;
  const most = mostActiveExperts(description);
  if (most === null) {
    throw new RerouteError(
      "model/not-moe",
      `The teacher routing ${routing.kind} changes which experts are active, but this ${description.family} teacher has none; use own`,
    );
  }
  return routing.kind === "augment" ? Math.max(1, most - 1) : most;
}

/** SparseMixer's second step leaves the first expert out: its two logits are no distribution to draw a set from. */
function refuseSampling({ layers, family }: ModelDescription): void {
  const found = layers.find(
    ({ feedForward }) => feedForward.kind === "moe" && feedForward.routing.kind === "sparse-mixer",
  );
  if (found === undefined) return;
  throw new RerouteError(
    "model/unsupported-option",
    `The teacher routing augment draws experts by the router's probabilities, which SparseMixer in layer ${found.index} of this ${family} teacher does not have; use own`,
  );
}

/**
 * The draws of a route. Each uniform number depends on seed, draw, layer, sequence and position alone, so that batches,
 * chunks and resumed passes draw alike.
 */
export class KeyedDraws {
  /** Number of the batch's first sequence among all. */
  firstSequence = 0;
  readonly sampler: ExpertSampler;

  constructor({ lambda, seed, draw }: NonNullable<TeacherRoute["draw"]>, sequenceLength: number) {
    const random = (layer: number, token: number, what: number) => {
      const sequence = this.firstSequence + Math.floor(token / sequenceLength);
      return keyedRandom(seed, draw, layer, sequence, token % sequenceLength, what);
    };
    this.sampler = augmentedRouting(lambda, {
      coin: (layer, token) => random(layer, token, 0).uniform(),
      race: (layer, token, out) => {
        const draws = random(layer, token, 1);
        for (let e = 0; e < out.length; e++) out[e] = draws.uniform();
      },
    });
  }
}
