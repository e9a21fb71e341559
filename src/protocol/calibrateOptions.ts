import { z } from "zod";

/** The part of a recipe that says how a student is calibrated. */

export const calibrationScopes = [
  "router",
  "router+scales",
  "router+top-experts",
  "router+experts",
  "feed-forward",
  "all",
] as const;
export const divergenceKinds = ["forward", "reverse", "jsd", "skew-forward", "skew-reverse"] as const;
export type DivergenceKind = (typeof divergenceKinds)[number];
export const calibrationLosses = ["kd", "lm", "kd+lm", "router-logits"] as const;

const activeExperts = z
  .int()
  .min(1)
  .optional()
  .describe("Experts that each token goes to; default: all (augment: all but one)");

/** Which experts of the teacher teach. */
export const teacherRouting = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("own") }),
  z.strictObject({ kind: z.literal("active"), active: activeExperts }),
  z.strictObject({
    kind: z.literal("augment"),
    active: activeExperts,
    lambda: z.number().min(0).max(1).default(0.05).describe("Share of tokens whose experts are drawn, in each layer"),
    draws: z.int().min(1).max(64).default(2).describe("Passes of the teacher, each with draws of its own"),
  }),
  z.strictObject({
    kind: z.literal("student-aware"),
    active: activeExperts,
    routerLearningRate: z
      .number()
      .positive()
      .optional()
      .describe("Of the teacher's router copies; default: a tenth of learningRate"),
    roundUpdates: z.int().min(1).default(32).describe("Updates between two runs of the teacher; 1: the published loop"),
    freezeAbove: z
      .number()
      .positive()
      .default(0.1)
      .describe("Mean KL of the trained to the original routers, nats, above which they train no more"),
  }),
]);
export type TeacherRouting = z.infer<typeof teacherRouting>;

/** A student that learns from what it writes itself. */
export const onPolicyOptions = z.strictObject({
  share: z
    .number()
    .gt(0)
    .max(1)
    .default(1)
    .describe("Share of the sequences that the student continues itself; the others keep their text"),
  promptTokens: z.int().min(1).default(32).describe("Tokens of a sequence that the student continues from"),
  roundUpdates: z
    .int()
    .min(1)
    .default(32)
    .describe("Updates between two rounds of writing and two runs of the teacher; 1: the published loop"),
  replay: z
    .number()
    .min(0)
    .lt(1)
    .default(0)
    .describe("Share of the student's sequences that are taken again from the round before"),
  temperature: z.number().positive().default(1).describe("Of the student's sampling"),
  pastEnd: z
    .boolean()
    .optional()
    .describe(
      "The student writes on behind an end token, as packed text goes on with another document; default: where the text is packed",
    ),
});

const termWeight = z.number().positive().optional();

/** What of the model's inside is matched beside the loss; each weight multiplies its term. */
export const matchTerms = z
  .strictObject({
    router: termWeight.describe("KL of the student's router probabilities to the teacher's on the same experts"),
    experts: termWeight.describe("Relative squared error of experts' outputs where the teacher routes"),
    feedForward: termWeight.describe("Relative squared error of what feed-forward parts add to the hidden states"),
  })
  .refine((terms) => Object.values(terms).some((weight) => weight !== undefined), "name a term with its weight");

export const activationTypes = ["int8", "fp8"] as const;
export type ActivationType = (typeof activationTypes)[number];

export const calibrateOptions = z.strictObject({
  loss: z
    .enum(calibrationLosses)
    .default("kd")
    .describe(
      "kd: KL(teacher || student) over the vocabulary; lm: cross-entropy of the text; kd+lm: both, weighted by lmShare; router-logits: match the teacher's router logits",
    ),
  divergence: z
    .enum(divergenceKinds)
    .optional()
    .describe("Of kd: forward, KL(teacher || student), unless another is named; docs/calibration.md defines them"),
  mix: z
    .number()
    .gt(0)
    .lt(1)
    .optional()
    .describe("Of the divergences jsd (default 0.5), skew-forward and skew-reverse (default 0.1)"),
  teacherRouting: teacherRouting
    .optional()
    .describe("Which experts of the teacher teach: its own choice unless another is named"),
  onPolicy: onPolicyOptions
    .optional()
    .describe("The student continues sequences itself and learns from the teacher there (loss kd)"),
  match: matchTerms
    .optional()
    .describe(
      "Terms that compare layer with layer, for students made from the teacher; the teacher then runs at every update",
    ),
  lmShare: z.number().min(0).max(1).default(0.5).describe("With loss kd+lm: the share of lm"),
  initialise: z
    .enum(["none", "router-logits"])
    .default("none")
    .describe(
      "router-logits: fit the routers to the teacher's router logits first (least squares), then train with `loss`",
    ),
  scope: z
    .enum(calibrationScopes)
    .default("router")
    .describe(
      "Which tensors may change: routers; routers and the scales of quantised experts, whose codes stay; routers and the topExperts most used experts of each layer; routers and all experts; all feed-forward parts, of dense layers too; everything",
    ),
  topExperts: z.int().min(1).default(8).describe("With scope router+top-experts: most used experts a layer"),
  learningRate: z.number().positive().default(5e-5),
  scaleLearningRate: z
    .number()
    .positive()
    .optional()
    .describe("With scope router+scales: of the scales; default: learningRate"),
  activations: z
    .enum(activationTypes)
    .optional()
    .describe(
      "The student's experts read activations rounded, a scale a token, as a server with 8-bit activations computes; gradients go straight through",
    ),
  routerBits: z
    .union([z.literal(8), z.literal(6), z.literal(4)])
    .optional()
    .describe(
      "Routers are rounded to so many bits in every forward pass, and as they are written; what trains are the numbers behind (straight-through)",
    ),
  routerGroup: z
    .int()
    .min(0)
    .optional()
    .describe("With routerBits: inputs that share a scale, a divisor of the width; default: one scale a row"),
  batch: z.int().min(1).default(8).describe("Sequences an optimiser update"),
  epochs: z.int().min(1).default(1),
  temperature: z.number().positive().default(1),
  schedule: z.enum(["linear", "cosine"]).default("linear"),
  warmup: z.number().min(0).max(1).default(0.03).describe("Share of the updates over which the learning rate rises"),
  clip: z.number().positive().default(1).describe("Largest global gradient norm"),
  weightDecay: z.number().min(0).default(0),
  heldOut: z
    .number()
    .min(0)
    .max(0.5)
    .default(0.05)
    .describe(
      "Held-out sequences, as a share of `sequences`, at most maxHeldOut; taken behind the training sequences where the text is long enough",
    ),
  maxHeldOut: z
    .int()
    .min(1)
    .default(32)
    .describe("Most held-out sequences: each evaluation runs all of them, beside the updates that train"),
  evaluateEvery: z.int().min(1).default(10).describe("Optimiser updates between held-out evaluations"),
  keepStep: z
    .enum(["best", "last"])
    .default("best")
    .describe("best: the update with the lowest held-out KL (loss lm: held-out loss; kd+lm: their weighted sum)"),
  patience: z
    .int()
    .min(0)
    .default(0)
    .describe("Stop after this many held-out evaluations without a new best; 0: never"),
  routerDtype: z
    .enum(["checkpoint", "float32"])
    .default("checkpoint")
    .describe("dtype the calibrated routers are written in"),
});
export type CalibrateOptions = z.infer<typeof calibrateOptions>;
