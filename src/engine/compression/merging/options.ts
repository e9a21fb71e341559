import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import type { MergingPlan } from "../../../protocol/plan";
import type { MergeOptions } from "./mergeGroup";

const router = z
  .enum(["fold", "map", "duplicate"])
  .default("fold")
  .describe(
    "fold: the dominant's router row stays, loads everywhere; map: all rows stay and several share an expert, loads in Reroute only; duplicate: every slot gets the merged weights, loads everywhere, saves nothing",
  );
const alignment = z
  .enum(["none", "weights", "activations"])
  .describe(
    "How units are matched before they are averaged. none: as they stand; weights: by the distance of their rows and columns; activations: by the correlation of what they compute, one more pass over the text",
  );
const mergeRules = z
  .enum(["average", "zipit", "fix-dominant", "least-squares"])
  .describe(
    "average: weighted by frequency; zipit: the most correlated units of a group are joined; fix-dominant: each unit joins one of the expert nearest to the cluster's mean; least-squares: MergeMoE's down projection, one more pass over the text",
  );
const zip = {
  downColumns: z
    .enum(["mean", "sum"])
    .default("mean")
    .describe("Down columns of joined units: mean as HC-SMoE's authors, or sum"),
  tokens: z
    .enum(["union", "joined"])
    .default("union")
    .describe(
      "Tokens that units are correlated over. union: those routed to the group, each once; joined: the members' tokens one after the other, as HC-SMoE's authors, so that one routed to two counts twice",
    ),
  unitWeights: z
    .enum(["frequency", "even"])
    .default("frequency")
    .describe("Weights of units that fix-dominant joins; even as HC-SMoE's authors"),
  zipLimit: z
    .int()
    .min(2)
    .default(16)
    .describe("Largest group that ZipIt merges; larger ones are merged by fix-dominant"),
};
const sequences = (count: number) =>
  z.int().min(1).default(count).describe("Calibration sequences that run through the experts");

export const mSmoeOptions = z.strictObject({
  router,
  groups: z
    .enum(["uniform", "global"])
    .default("uniform")
    .describe(
      "uniform: the same number of groups in every layer; global: the paper's budget over all layers, which only Reroute loads (router map), or anything with duplicate",
    ),
  alignment: alignment
    .default("none")
    .describe("none as in the paper's code for Mixtral; weights: units matched by weights first"),
  merge: z.enum(["average", "least-squares"]).default("average").describe("least-squares: MergeMoE's down projection"),
  sequences: sequences(32),
});

export const hcSmoeOptions = z.strictObject({
  router,
  merge: mergeRules.default("zipit"),
  alignment: alignment.default("none"),
  ...zip,
  sequences: sequences(32),
});

export const reamOptions = z.strictObject({
  router,
  groupSize: z
    .int()
    .min(0)
    .refine((size) => size !== 1, "at least 2, or 0")
    .default(0)
    .describe(
      "Most experts in one group; 0: an eighth of the layer's experts, 2 to 32 (the paper's 16 of 128 and 32 of 512)",
    ),
  saliency: z
    .enum(["squared", "printed"])
    .default("squared")
    .describe(
      "What ranks and weighs experts. squared: mean p² ‖f‖ as the authors' code, p the softmax weight; printed: mean p ‖f‖, the formula it names",
    ),
  // Centroids chosen from a few thousand tokens miss the experts of rarer domains; the paper takes 3072 sequences.
  sequences: sequences(256),
});

/** What any of the methods looks at when its plan is applied; a plan written by hand is averaged. */
const applied = z
  .object({ ...hcSmoeOptions.shape, merge: mergeRules.default("average"), sequential: z.boolean().default(false) })
  .omit({ router: true, alignment: true });

/** How a merging plan is to be applied: what it says, with defaults for a plan written by hand. */
export interface AppliedMergeOptions extends MergeOptions {
  sequences: number;
  /** Later layers see what the merged ones give (REAM). */
  sequential: boolean;
}

/** @throws RerouteError plan/invalid for a value that the plan's options cannot have */
export function appliedMergeOptions({ options, alignment: aligned, seed }: MergingPlan): AppliedMergeOptions {
  const parsed = applied.safeParse(options ?? {});
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new RerouteError(
      "plan/invalid",
      `The plan's option ${issue.path.join(".")} cannot be used: ${issue.message}`,
    );
  }
  const { merge, ...rest } = parsed.data;
  return { rule: merge, alignment: aligned, seed: seed ?? 42, ...rest };
}
