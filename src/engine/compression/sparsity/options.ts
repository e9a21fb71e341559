import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import { sparsityPatterns, type SparsityPlan } from "../../../protocol/plan";

const pattern = z
  .enum(sparsityPatterns)
  .default("unstructured")
  .describe("unstructured: any weights; 2:4, 4:8: half of every 4 or 8 consecutive inputs of an output stay");
const sequences = z.int().min(1).default(64).describe("Calibration sequences whose activations weigh the weights");
const adaptive = z
  .enum(["none", "outliers", "utilisation", "sensitivity"])
  .default("none")
  .describe(
    "How shares differ at the same total. none: they do not; outliers: by the share of scores far above their mean (OWL); utilisation: by tokens; sensitivity: by the output error of the uniform share",
  );
const level = z
  .enum(["auto", "layer", "expert"])
  .default("auto")
  .describe("What has a share of its own; auto: the layer for outliers, the expert for utilisation and sensitivity");
const spread = z
  .number()
  .min(0)
  .max(0.5)
  .default(0.08)
  .describe("Adaptive shares lie within twice this of the mean (OWL's lambda)");
const outlierFactor = z.number().positive().default(5).describe("A score is an outlier above this times the mean");
const sequential = z
  .boolean()
  .default(false)
  .describe("Later layers see what the pruned layers before give, instead of the original's activations");

export const magnitudeOptions = z.strictObject({
  pattern,
  compare: z
    .enum(["row", "matrix"])
    .default("row")
    .describe("Weights are compared within each output of a matrix, or within the whole of it"),
});
const byActivations = { pattern, sequences, adaptive, level, spread, outlierFactor, sequential };
export const wandaOptions = z.strictObject(byActivations);
export const sparseGptOptions = z.strictObject({
  ...byActivations,
  damp: z.number().positive().default(0.01).describe("Share of the Hessian's mean diagonal added to its diagonal"),
  block: z.int().min(8).multipleOf(8).default(128).describe("Columns whose weights are compared together"),
  gramMix: z
    .number()
    .min(0)
    .default(0.1)
    .describe("Share of the layer's mean Hessian in each expert's, for experts that few tokens reach"),
});
export type AdaptiveOptions = Omit<z.infer<typeof wandaOptions>, "pattern">;

/** What any of the methods looks at when its plan is applied. */
const applied = z.object({ ...magnitudeOptions.shape, ...sparseGptOptions.shape }).omit({ pattern: true });
export type AppliedSparsityOptions = z.infer<typeof applied>;

/** @throws RerouteError plan/invalid for a value that the plan's options cannot have */
export function appliedSparsityOptions({ options }: SparsityPlan): AppliedSparsityOptions {
  const parsed = applied.safeParse(options ?? {});
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new RerouteError("plan/invalid", `The plan's option ${issue.path.join(".")} cannot be used: ${issue.message}`);
}
