import { z } from "zod";

/**
 * compression-plan.json: what happens to each MoE layer's experts. Layer keys are decoder layer numbers.
 * Made by a pure function from statistics and options; edited by hand; applied again it gives the same bytes.
 */

const expertId = z.int().min(0).max(1_000_000);

export const pruningLayer = z.strictObject({
  kept: z.array(expertId).min(1).describe("Expert ids that stay, ascending; new ids are positions in this list"),
  scores: z
    .array(z.number().nullable())
    .optional()
    .describe("The method's score of every original expert; null: never routed"),
  /** MoNE only: pruned experts are replaced by their mean output instead of leaving. */
  replaceByConstant: z.boolean().optional(),
});

export const mergeGroupSchema = z.strictObject({
  members: z.array(expertId).min(1),
  weights: z.array(z.number().min(0)).min(1).describe("Averaging weight of each member, summing to 1"),
  dominant: expertId.describe("The member whose router row stands for the group"),
  centre: expertId
    .optional()
    .describe(
      "The member whose units the others' are joined to (ZipIt, fix-dominant); the dominant where it is left out",
    ),
});

export const mergingLayer = z.strictObject({ groups: z.array(mergeGroupSchema).min(1) });

export const editingLayer = z.strictObject({
  ranks: z
    .record(z.string(), z.int().min(0))
    .describe("Rank by projection (gateProj, upProj, downProj); 0: left as it is"),
});

export const sparsityPatterns = ["unstructured", "2:4", "4:8"] as const;

export const sparsityLayer = z.strictObject({
  keep: z
    .array(z.number().positive().max(1))
    .min(1)
    .describe("Share of the weights that stay, of every expert; 1: all"),
});

export const neuronsLayer = z.strictObject({
  removed: z
    .array(z.array(z.int().min(0).max(1_000_000)))
    .min(1)
    .describe("Intermediate units that leave, ascending, of every expert"),
});

/** Layouts that quantised experts are written in. */
export const quantisationFormats = ["pack-quantized", "fp8-block", "fp8", "mxfp4"] as const;

export const quantisationLayer = z.strictObject({
  bits: z.int().min(2).max(8).describe("Bits of a weight, of every expert"),
  group: z.int().min(0).max(1_000_000).describe("Inputs that share a scale; 0: one scale a row"),
  symmetric: z.literal(false).optional().describe("false: groups have zero points; only in pack-quantized"),
  experts: z.array(z.int().min(2).max(8)).min(1).optional().describe("Bits of each expert, where they differ"),
  losses: z
    .record(z.string().regex(/^[2-8]$/), z.array(z.number().min(0)))
    .optional()
    .describe("What each expert was measured to lose, by number of bits"),
});

const common = {
  schemaVersion: z.literal(1),
  method: z.string().min(1).max(100),
  /** The checkpoint the plan was made for; a plan for another model is refused. */
  teacherFingerprint: z.string().optional(),
  seed: z.int().min(0).optional(),
  options: z.record(z.string(), z.union([z.number(), z.string(), z.boolean()])).optional(),
  notes: z.array(z.string()).optional().describe("What the method had to decide, e.g. for never-routed experts"),
};
const layerKey = z.string().regex(/^(0|[1-9]\d{0,5})$/, "a decoder layer number");

export const planSchema = z.discriminatedUnion("paradigm", [
  z.strictObject({
    ...common,
    paradigm: z.literal("pruning"),
    groupLimits: z
      .enum(["keep", "drop"])
      .optional()
      .describe("drop: routing is no longer limited to groups of experts"),
    counts: z
      .enum(["uniform", "by-layer"])
      .optional()
      .describe("by-layer: layers may keep different numbers of experts, which only Reroute loads"),
    layers: z.record(layerKey, pruningLayer),
  }),
  z.strictObject({
    ...common,
    paradigm: z.literal("merging"),
    alignment: z.enum(["none", "weights", "activations"]).default("none"),
    router: z.enum(["fold", "map", "duplicate"]).default("fold"),
    layers: z.record(layerKey, mergingLayer),
  }),
  z.strictObject({
    ...common,
    paradigm: z.literal("editing"),
    output: z.enum(["dense", "factored"]).default("dense"),
    layers: z.record(layerKey, editingLayer),
  }),
  z.strictObject({
    ...common,
    paradigm: z.literal("sparsity"),
    pattern: z
      .enum(sparsityPatterns)
      .default("unstructured")
      .describe("2:4, 4:8: two of four, four of eight consecutive inputs stay"),
    layers: z.record(layerKey, sparsityLayer),
  }),
  z.strictObject({
    ...common,
    paradigm: z.literal("neurons"),
    width: z
      .enum(["uniform", "layer", "expert"])
      .default("uniform")
      .describe("What has a width of its own; other than uniform: only Reroute loads it, unless padded"),
    form: z
      .enum(["cut", "padded"])
      .default("cut")
      .describe("padded: narrower experts are filled with zeros to the widest one's width, and load everywhere"),
    layers: z.record(layerKey, neuronsLayer),
  }),
  z.strictObject({
    ...common,
    paradigm: z.literal("quantisation"),
    format: z
      .enum(quantisationFormats)
      .default("pack-quantized")
      .describe("The layout on disk; docs/compression-methods.md"),
    layers: z.record(layerKey, quantisationLayer),
  }),
  z.strictObject({
    ...common,
    paradigm: z.literal("router"),
    layers: z.record(
      layerKey,
      z.strictObject({
        keep: z.number().positive().max(1).describe("Share of inputs, or of each row's weights, that stay"),
        bits: z
          .union([z.literal(8), z.literal(6), z.literal(4)])
          .optional()
          .describe("Bits that weights are rounded to; they are stored as before"),
        group: z.int().min(0).max(1_000_000).optional().describe("Inputs that share a scale; 0: one scale a row"),
      }),
    ),
  }),
]);

export type CompressionPlan = z.infer<typeof planSchema>;
export type PruningPlan = Extract<CompressionPlan, { paradigm: "pruning" }>;
export type MergingPlan = Extract<CompressionPlan, { paradigm: "merging" }>;
export type EditingPlan = Extract<CompressionPlan, { paradigm: "editing" }>;
export type SparsityPlan = Extract<CompressionPlan, { paradigm: "sparsity" }>;
export type SparsityPattern = SparsityPlan["pattern"];
export type QuantisationPlan = Extract<CompressionPlan, { paradigm: "quantisation" }>;
export type QuantisationFormat = QuantisationPlan["format"];
export type NeuronsPlan = Extract<CompressionPlan, { paradigm: "neurons" }>;
export type RouterPlan = Extract<CompressionPlan, { paradigm: "router" }>;
