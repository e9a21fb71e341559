import { z } from "zod";

/** A recipe (`*.reroute.json`) describes a whole run. Paths are relative to the recipe's folder. */

export const pruningMethods = [
  "reap",
  "frequency",
  "weighted-frequency",
  "ean",
  "aimer",
  "random",
  "cfes",
  "naee",
  "easy-ep",
  "mone",
  "ablation",
] as const;
export const editingMethods = ["svd", "svd-llm", "mobe", "td-moe", "d2-moe"] as const;
export const mergingMethods = ["hc-smoe", "m-smoe", "ream"] as const;
/** Weights inside experts become zero. */
export const sparsityMethods = ["magnitude", "wanda", "moe-pruner", "sparsegpt"] as const;
/** Intermediate units of experts leave. */
export const neuronMethods = ["neurons"] as const;
/** Weights of routers become zero, or are rounded. */
export const routerMethods = ["router-columns", "router-weights", "router-rtn"] as const;
/** Weights of experts become codes with scales. */
export const quantisationMethods = ["rtn", "gptq", "awq", "fp8", "mxfp4"] as const;
export const compressionMethods = [
  ...pruningMethods,
  ...editingMethods,
  ...mergingMethods,
  ...sparsityMethods,
  ...neuronMethods,
  ...routerMethods,
  ...quantisationMethods,
] as const;
export type CompressionMethod = (typeof compressionMethods)[number];

/** What becomes of the experts, and by which methods. */
const paradigms = {
  pruning: pruningMethods,
  editing: editingMethods,
  merging: mergingMethods,
  sparsity: sparsityMethods,
  neurons: neuronMethods,
  router: routerMethods,
  quantisation: quantisationMethods,
} satisfies Record<string, readonly CompressionMethod[]>;
export type Paradigm = keyof typeof paradigms;

export function paradigmOf(method: CompressionMethod): Paradigm {
  const rows = Object.entries(paradigms) as [Paradigm, readonly CompressionMethod[]][];
  return rows.find(([, methods]) => methods.includes(method))![0];
}

export const executionProviders = ["cpu", "cuda", "directml", "coreml", "webgpu"] as const;

/** `auto`: the fastest one that computes rightly on this machine. */
export const providerChoices = ["auto", ...executionProviders] as const;

/** "8GiB", "512 MiB", "1.5GB" or a number of bytes. */
export const memorySize = z
  .string()
  .regex(/^\d+(\.\d+)?\s*([KMGT]i?B|B)?$/i, "a size such as 8GiB")
  .describe("Memory budget, e.g. 8GiB. Default: a share of what this machine leaves free");

/** How a text becomes sequences. */
export const packings = ["packed", "truncated", "responses"] as const;
export type Packing = (typeof packings)[number];

export const dataOptions = z.strictObject({
  calibration: z
    .string()
    .min(1)
    .describe("Text for profiling and calibration: a file, a folder or a pattern; docs/data.md lists the kinds"),
  evaluation: z.string().min(1).optional().describe("Held-out text for the before/after comparison"),
  task: z
    .string()
    .min(1)
    .optional()
    .describe(
      "Multiple-choice items (context, choices, gold) whose accuracy each evaluated checkpoint is measured by, too",
    ),
  column: z.string().min(1).optional().describe("The column or key that holds the text, token ids or messages"),
  tokenizer: z
    .string()
    .min(1)
    .optional()
    .describe("Folder with tokenizer.json and chat template, for checkpoints that have none; default: the teacher"),
  splitEvaluation: z
    .literal(true)
    .optional()
    .describe(
      "Splits the held-out text off the calibration text, behind what is trained on, instead of `evaluation`; begins at a document's border where there is one",
    ),
  activeExperts: z
    .array(z.int().min(1))
    .max(64)
    .optional()
    .describe(
      "Numbers of the teacher's active experts under which it, and the student's distance to it, are measured on the evaluation text, a pass each; empty: 1, 2, 4 and so on, its own, all but one, all",
    ),
  sequences: z.int().min(1).default(3000).describe("Calibration sequences used, in file order"),
  evaluationSequences: z.int().min(1).default(96).describe("Evaluation sequences used, in file order"),
  sequenceLength: z.int().min(2).default(512).describe("Tokens a sequence"),
  packing: z
    .enum(packings)
    .default("packed")
    .describe(
      "packed: documents joined with the end-of-text token and cut; truncated: one document a sequence, cut at the length; responses: one instruction and its answer a sequence, of which the answer counts",
    ),
});

export const compressOptions = z.strictObject({
  method: z.enum(compressionMethods).default("reap").describe("How experts are compressed"),
  keep: z
    .number()
    .positive()
    .default(0.625)
    .describe("Experts kept in each layer: a fraction up to 1, or a count above 1"),
  multipleOf: z
    .int()
    .min(1)
    .optional()
    .describe(
      "Kept experts of each layer are rounded to the nearest multiple of this (a tie goes down), as servers can place them; for methods that drop or merge experts",
    ),
  plan: z.string().optional().describe("A compression-plan.json to apply instead of computing one"),
  protectSuperExperts: z
    .enum(["off", "early-layers", "all-layers"])
    .default("off")
    .describe("Never drop experts with extreme activations (REAP's super-expert rule)"),
  reapWeights: z
    .enum(["model", "softmax"])
    .default("model")
    .describe("model: the routing weights the model uses; softmax: the REAP authors' shortcut"),
  groupLimits: z
    .enum(["keep", "drop"])
    .default("keep")
    .describe(
      "Models that route within groups of experts. keep: every group loses as many; drop: no limit any more (changes routing)",
    ),
  /** Options of one method; checked against that method's own schema before any work. */
  options: z.record(z.string(), z.union([z.number(), z.string(), z.boolean()])).default({}),
});

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

/** One step of a pipeline. */
export const pipelineStep = z
  .strictObject({
    name: z.string().min(1).max(60).optional().describe("A name for people; default: the method, or calibrate"),
    compress: compressOptions.optional(),
    calibrate: calibrateOptions.optional(),
  })
  .refine(({ compress, calibrate }) => (compress === undefined) !== (calibrate === undefined), {
    message: "a step either compresses or calibrates: give it one of both",
  });

/** More would be a mistake. */
export const maxSteps = 20;

export const recipeSchema = z
  .strictObject({
    $schema: z.string().optional(),
    schemaVersion: z.literal(1),
    name: z.string().max(200).optional().describe("A name for people"),
    teacher: z
      .string()
      .min(1)
      .describe('The original checkpoint: a folder, or "org/name" of a model in the Hugging Face cache'),
    student: z
      .string()
      .min(1)
      .optional()
      .describe("An already compressed checkpoint, named in the same way; leaves out profile and compress"),
    source: z
      .string()
      .min(1)
      .optional()
      .describe(
        "What `compress` compresses where it is not the teacher: a checkpoint that Reroute made from it before. Quality is measured against the teacher",
      ),
    evaluateOnly: z
      .literal(true)
      .optional()
      .describe("Measures the teacher, or a student against it, and does nothing else; the teacher may be dense"),
    data: dataOptions,
    compress: compressOptions.optional(),
    calibrate: calibrateOptions.optional(),
    steps: z
      .array(pipelineStep)
      .min(1)
      .max(maxSteps)
      .optional()
      .describe(
        "In place of compress and calibrate: compressions and calibrations one after the other, each on what the one before it wrote, each measured against the teacher",
      ),
    measureSpeed: z
      .literal(true)
      .optional()
      .describe("Evaluations also time each checkpoint on this machine: one token, and batches of 32, 128 and 512"),
    activations: z
      .enum(activationTypes)
      .optional()
      .describe("Students are evaluated with their experts' activations rounded so; default: as they are calibrated"),
    output: z.string().min(1).describe("Folder for the resulting checkpoint; must not exist or be empty"),
    seed: z.int().min(0).default(42),
    memory: memorySize.optional(),
    threads: z.int().min(1).max(1024).optional(),
    provider: z.enum(providerChoices).default("auto"),
  })
  .describe("Reroute recipe: profile, compress, calibrate and evaluate one checkpoint");

/** What students' activations are rounded to where they are evaluated. */
export function evaluatedActivations({
  activations,
  calibrate,
}: Pick<Recipe, "activations" | "calibrate">): ActivationType | undefined {
  return activations ?? calibrate?.activations;
}

export type Recipe = z.infer<typeof recipeSchema>;
export type PipelineStep = z.infer<typeof pipelineStep>;
export type CompressOptions = z.infer<typeof compressOptions>;
export type CalibrateOptions = z.infer<typeof calibrateOptions>;
export type ExecutionProvider = (typeof executionProviders)[number];
export type ProviderChoice = (typeof providerChoices)[number];
