import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import type { NeuronsPlan } from "../../../protocol/plan";
import { oneOf, separateSearchOptions } from "../budgets/searchOptions";

const { population, generations, fitness, searchSequences } = separateSearchOptions("With budget=evoesap");

export const neuronsOptions = z.strictObject({
  score: z
    .enum(["energy", "camera", "heapr", "magnitude"])
    .default("energy")
    .describe(
      "energy: down column's squared norm times summed squared gated activation; camera: with the share alpha of its maximum; heapr: second order in the loss; magnitude: norms of the three weights",
    ),
  alpha: z.number().min(0).max(1).default(1).describe("With score=camera: share of the maximum beside the sum"),
  width: z
    .enum(["uniform", "layer", "expert"])
    .default("uniform")
    .describe("uniform: one width for all experts, drop-in; layer, expert: widths of their own at the same total"),
  budget: oneOf(
    ["sensitivity", "evoesap"],
    "; one width for all is width=uniform, and grape counts experts that are alike, which units are not",
  )
    .default("sensitivity")
    .describe(
      "With width=layer. sensitivity: units go where the last ones add most to the score; evoesap: an evolutionary search that runs the model some 200 times over 16 sequences",
    ),
  population,
  generations,
  searchSequences,
  fitness,
  form: z
    .enum(["cut", "padded"])
    .default("cut")
    .describe(
      "cut: every expert as wide as it is; padded: zeros up to the widest expert, so that other widths than uniform load everywhere",
    ),
  multiple: z
    .int()
    .min(0)
    .default(0)
    .describe(
      "Widths are a multiple of this (not with width=expert); 0: 64, or less where experts are narrower than 512",
    ),
  repair: z
    .boolean()
    .default(false)
    .describe("Refit the down projection to the original's output by least squares on the units that stay"),
  sequences: z.int().min(1).default(64).describe("Calibration sequences whose activations are looked at"),
});
export type NeuronOptions = z.infer<typeof neuronsOptions>;

const applied = neuronsOptions.pick({ repair: true, sequences: true }).loose();
export type AppliedNeuronOptions = Pick<NeuronOptions, "repair" | "sequences">;

/** @throws RerouteError plan/invalid for a value that the plan's options cannot have */
export function appliedNeuronOptions({ options }: Pick<NeuronsPlan, "options">): AppliedNeuronOptions {
  const parsed = applied.safeParse(options ?? {});
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new RerouteError("plan/invalid", `The plan's option ${issue.path.join(".")} cannot be used: ${issue.message}`);
}
