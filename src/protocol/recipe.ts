import { z } from "zod";
import { activationTypes, calibrateOptions, type ActivationType } from "./calibrateOptions";
import { studentOptions } from "./denseStudent";
import { compressionMethods } from "./methods";

/** A recipe (`*.reroute.json`) describes a whole run. Paths are relative to the recipe's folder. */

export const executionProviders = ["cpu", "cuda", "directml", "coreml", "webgpu"] as const;

/** `auto`: the fastest one that computes rightly on this machine. */
export const providerChoices = ["auto", ...executionProviders] as const;

/** `preview`: a profile whose experts' products are computed in 8-bit integers. */
export const precisions = ["exact", "preview"] as const;
export type Precision = (typeof precisions)[number];

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
    student: studentOptions
      .optional()
      .describe(
        'An already compressed checkpoint, named in the same way; leaves out profile and compress. Or a dense model that is built of the teacher\'s experts: {"build": {}}',
      ),
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
    precision: z
      .enum(precisions)
      .optional()
      .describe(
        "preview: experts' products of the profile in 8-bit integers, faster and approximate; not for recipes that calibrate or evaluate. Default: exact",
      ),
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
export type ExecutionProvider = (typeof executionProviders)[number];
export type ProviderChoice = (typeof providerChoices)[number];
