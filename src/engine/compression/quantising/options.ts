import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import type { QuantisationPlan } from "../../../protocol/plan";
import { oneOf, separateSearchOptions } from "../budgets/searchOptions";

const bits = z
  .union([z.literal(8), z.literal(4), z.literal(3), z.literal(2)])
  .default(4)
  .describe("Bits of a weight; servers load 4 and 8, Reroute and transformers 2 and 3 too");
const group = z
  .int()
  .min(0)
  .default(128)
  .describe("Inputs that share a scale: a divisor of the width; 0: one scale a row");
const format = z.literal("pack-quantized").default("pack-quantized").describe("compressed-tensors, packed integers");
const scale = z
  .enum(["max", "mse"])
  .default("max")
  .describe("max: the largest weight of a group sets its scale; mse: of 20 smaller ones too, the one of least error");
const symmetric = z
  .boolean()
  .default(true)
  .describe(
    "false: groups have zero points, for weights that are not spread evenly about 0; transformers does not load it",
  );
const sequences = z.int().min(1).default(64).describe("Calibration sequences whose activations weigh the error");
const gramMix = z
  .number()
  .min(0)
  .max(1)
  .default(0.1)
  .describe("Share of the layer's mean Hessian in each expert's, for experts that few tokens reach");
const hessian = z
  .enum(["affinity", "plain", "squared"])
  .default("affinity")
  .describe("How tokens count. affinity: with their routing weight; plain: once; squared: with its square");

/** Widths by what experts lose, within a budget. */
const mixed = {
  allocate: oneOf(
    ["none", "sensitivity", "utilisation", "loss", "evoesap"],
    "; grape counts experts that are alike, which says nothing about their bits",
  )
    .default("none")
    .describe(
      "Different widths within `budget`. none: one width; sensitivity: by what the outputs lose, one more pass over the text; utilisation: by tokens times the change of the weights, one more pass; loss: by the model's KL with each alone at each width, about half as many passes as widths times layers, or with granularity=expert as many more as there are experts; evoesap: an evolutionary search that runs the model some 200 times over 16 sequences, all layers at their widths",
    ),
  granularity: z
    .enum(["layer", "model", "expert"])
    .default("layer")
    .describe(
      "What gets a width of its own. layer: loads in vLLM, transformers reads it wrongly; model: one width, the best that fits; expert: loads in Reroute only",
    ),
  widths: z.string().default("2,3,4,8").describe("Bits to choose from"),
  budget: z
    .number()
    .min(0)
    .max(16)
    .default(0)
    .describe("Bits a weight on average, scales included, at most; 0: what `bits` takes"),
  ...separateSearchOptions("With allocate=evoesap"),
};
export type MixedOptions = z.infer<z.ZodObject<typeof mixed>>;

export const rtnOptions = z.strictObject({ bits, group, symmetric, format, scale });
export const gptqOptions = z.strictObject({
  ...{ bits, group, symmetric, format, sequences, hessian, gramMix, ...mixed },
  scale: z
    .enum(["max", "mse", "hessian"])
    .default("max")
    .describe(
      "max: the largest weight of a group sets its scale; mse: of 20 smaller ones too, the one of least error; hessian: as mse, errors counted with the Hessian's diagonal, how strongly their input fires",
    ),
  damp: z.number().min(0).default(0.01).describe("Share of the Hessian's mean diagonal added to it"),
  block: z.int().min(1).default(128).describe("Columns between two updates of those behind"),
  choose: z
    .enum(["best", "gptq"])
    .default("best")
    .describe(
      "best: of each matrix GPTQ's or the nearest codes, whichever change its outputs less; gptq: its own everywhere",
    ),
  sequential: z
    .boolean()
    .default(true)
    .describe("Later layers see what the quantised earlier ones give, as GPTQ was published"),
});
const gateUp = z
  .boolean()
  .default(false)
  .describe(
    "Scales for what gate and up read too, one set a layer: norm, router and shared experts take them in, which keeps the model's function but not those tensors' bytes",
  );
export const awqOptions = z.strictObject({
  bits,
  group,
  symmetric,
  format,
  scale,
  sequences,
  hessian,
  gramMix,
  gateUp,
  ...mixed,
});
export const fp8Options = z.strictObject({
  format: z
    .enum(["fp8-block", "fp8"])
    .default("fp8-block")
    .describe("fp8-block: DeepSeek's, a scale for 128 x 128 weights; fp8: compressed-tensors, a scale a row"),
});
export const mxfp4Options = z.strictObject({
  format: z.literal("mxfp4").default("mxfp4").describe("compressed-tensors, a power of two for 32 weights"),
});

/** What applying a plan looks at; a plan written by hand gets the defaults. */
const applied = z
  .object({ ...gptqOptions.shape, gateUp })
  .omit({ bits: true, group: true, symmetric: true, format: true })
  .omit({ allocate: true, granularity: true, widths: true, budget: true })
  .omit({ population: true, generations: true, fitness: true, searchSequences: true });
export type AppliedQuantisationOptions = z.infer<typeof applied>;

/** @throws RerouteError plan/invalid for a value that the plan's options cannot have */
export function appliedQuantisationOptions({ options }: QuantisationPlan): AppliedQuantisationOptions {
  const parsed = applied.safeParse(options ?? {});
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new RerouteError("plan/invalid", `The plan's option ${issue.path.join(".")} cannot be used: ${issue.message}`);
}
