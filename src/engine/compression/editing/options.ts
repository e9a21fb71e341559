import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import type { EditingPlan } from "../../../protocol/plan";

const sequences = (count: number) =>
  z.int().min(1).default(count).describe("Calibration sequences whose activations weigh the error");
const gramMix = z
  .number()
  .min(0)
  .default(0.1)
  .describe("Share of the layer's mean Gram matrix in each expert's, for experts that few tokens reach");

const output = z
  .enum(["dense", "factored"])
  .default("dense")
  .describe(
    "dense: whole weights, loads everywhere, no smaller; factored: stored as factors at their real size, loads in Reroute",
  );

export const svdOptions = z.strictObject({ output });
export const svdLlmOptions = z.strictObject({ output, sequences: sequences(64), gramMix });
export const deltaOptions = z.strictObject({
  output,
  sequences: sequences(64),
  gramMix,
  base: z.enum(["frequency", "mean"]).default("frequency").describe("How experts are averaged to the shared base"),
});
export const tuckerOptions = z.strictObject({
  output,
  sequences: sequences(64),
  exponent: z
    .enum(["positive", "negative"])
    .default("positive")
    .describe("positive: whitening by Sigma^(1/2), which minimises the output error; negative: as the paper prints it"),
});
export const mobeOptions = z.strictObject({
  output,
  bases: z.int().min(0).default(0).describe("Basis matrices a layer; 0: one for 16 experts, at least two"),
  steps: z
    .int()
    .min(0)
    .default(1000)
    .describe("Optimiser steps for each projection of each layer; the paper uses 10000"),
  learningRate: z.number().positive().default(0.07),
  batch: z.int().min(1).default(32).describe("Experts a micro-batch"),
  activation: z.enum(["silu", "tanh"]).default("silu").describe("What the mixture of basis matrices goes through"),
});

/** What any of the methods looks at when its plan is applied; a plan written by hand gets their defaults. */
const applied = z
  .object({ ...deltaOptions.shape, ...tuckerOptions.shape, ...mobeOptions.shape })
  .omit({ output: true, bases: true });
export type AppliedEditOptions = z.infer<typeof applied>;

/** @throws RerouteError plan/invalid for a value that the plan's options cannot have */
export function appliedEditOptions({ options }: EditingPlan): AppliedEditOptions {
  const parsed = applied.safeParse(options ?? {});
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new RerouteError("plan/invalid", `The plan's option ${issue.path.join(".")} cannot be used: ${issue.message}`);
}
