import { z } from "zod";
import { activationTypes } from "./calibrateOptions";
import { verdicts } from "./verdict";

/** evaluation.json: the same held-out sequences through teacher, student before and student after calibration. */

/** A mean over sequences with the half width of its 95 % bootstrap interval. */
export const estimate = z.object({ mean: z.number(), halfWidth95: z.number() });
export type Estimate = z.infer<typeof estimate>;

/** How evenly a model uses a layer's experts. */
const evenness = z.object({ coefficientOfVariation: z.number(), dead: z.int() });

export const routingFidelityLayer = z.object({
  layer: z.int(),
  /** KL(teacher || student) of the routing distributions over the kept experts, nats a token. */
  routingKl: z.number(),
  /** Mean over tokens of sum_e |p_teacher(e) - p_student(e)|, experts on the teacher's axis. */
  l1: z.number(),
  /** Mean share of the teacher's top-k that the student also selects. */
  topKOverlap: z.number(),
  /** Share of tokens for which both select the same experts and no others. */
  exactSet: z.number().optional(),
  /** Absent in files of earlier versions. */
  load: z
    .object({
      totalVariation: z
        .number()
        .describe("Half of sum |u_teacher - u_student| over experts, u their shares of routed slots"),
      teacher: evenness,
      student: evenness,
    })
    .optional(),
  /** Per teacher expert: its contribution p_T log(p_T / p_S), nats a token; null where the student has no such expert. */
  klByExpert: z.array(z.number().nullable()),
});

/** Tokens of the batches that are timed; one token is decoded behind a context. */
export const batchTokens = [1, 32, 128, 512] as const;

/** Latency and throughput of a checkpoint on the machine that evaluated it, wall time. */
export const measuredSpeed = z.object({
  threads: z.int(),
  provider: z.string(),
  runs: z.int().describe("Timed runs of each size; medians and 90th percentiles are over them"),
  context: z.int().describe("Tokens before the first one that is decoded"),
  batches: z
    .array(
      z.object({
        tokens: z.int().describe("1: one token decoded behind the context; else tokens until the logits of the last"),
        medianMs: z.number(),
        p90Ms: z.number(),
        tokensPerSecond: z.number(),
        gemmShare: z.number().describe("Floating-point operations a second over those of a float32 matrix product"),
      }),
    )
    .min(1),
  machine: z.object({
    gemmFlops: z.number().describe("Of a float32 product [1024, 1024] x [1024, 1024], the fastest of a few"),
    copyBytesPerSecond: z.number().describe("Of one thread's copy, read and written bytes both counted"),
  }),
  bandwidthShare: z.number().describe("Stored bytes that one token reads, a second, over copyBytesPerSecond"),
});
export type MeasuredSpeed = z.infer<typeof measuredSpeed>;

export const checkpointCost = z.object({
  parametersTotal: z.number(),
  /** Parameters one token touches. */
  parametersActive: z.number(),
  bytes: z.number(),
  bitsPerWeight: z.number().optional().describe("8 x bytes of the tensors that parameters are stored in / parameters"),
  expertBitsPerWeight: z.number().optional().describe("The same of routed experts, with their scales"),
  activationBytes: z
    .number()
    .optional()
    .describe("Largest run of one sequence through a layer: inputs, results, widened weights"),
  /** Floating-point operations of one forward pass, a token (2 per multiply-add), at the evaluated length. */
  flopsPerToken: z.number(),
  tokensPerSecond: z
    .number()
    .nullable()
    .describe(
      "Median over chunks of sequences of tokens a second of graph time, layers alone; null where not measured",
    ),
  tokensPerSecondQuartiles: z
    .tuple([z.number(), z.number()])
    .nullable()
    .optional()
    .describe("First and third quartile over the chunks; null for fewer than three of them"),
  peakMemoryBytes: z.number().nullable(),
  speed: measuredSpeed.optional(),
});

/** Accuracy on multiple-choice items by log-likelihood. */
export const taskResult = z.object({
  path: z.string(),
  items: z.int(),
  accuracy: estimate.describe("Share of items whose right choice has the largest log-likelihood"),
  accuracyNormalised: estimate.describe("The same with log-likelihoods divided by the choices' characters"),
  /** 1 where it is right, in file order: what paired comparisons use. */
  perItem: z.object({ correct: z.array(z.number()), normalised: z.array(z.number()) }),
});
export type TaskResult = z.infer<typeof taskResult>;

export const modelEvaluation = z.object({
  checkpoint: z.string(),
  tokens: z.int().describe("Target positions evaluated"),
  sequences: z.int(),
  nllPerToken: z.number().describe("nats a token"),
  perplexity: z.number(),
  klToTeacher: z.number().nullable().describe("KL(teacher || student) over the vocabulary, nats a token"),
  top1Agreement: z.number().nullable().describe("Share of positions where both models' most likely token is the same"),
  uncertainty: z.object({
    nllPerToken: estimate,
    klToTeacher: estimate.nullable(),
    top1Agreement: estimate.nullable(),
  }),
  /** Per sequence, in order: what paired comparisons use. */
  perSequence: z.object({
    nll: z.array(z.number()),
    kl: z.array(z.number()).nullable(),
    top1: z.array(z.number()).nullable(),
  }),
  byDomain: z.record(
    z.string(),
    z.object({ tokens: z.int(), nllPerToken: z.number(), klToTeacher: z.number().nullable() }),
  ),
  routing: z.array(routingFidelityLayer).nullable(),
  /** Student expert -> teacher expert ids, by layer number. */
  expertMapping: z.record(z.string(), z.array(z.array(z.int()))).nullable(),
  cost: checkpointCost,
  task: taskResult.optional(),
  activations: z
    .enum(activationTypes)
    .optional()
    .describe("Experts' activations were rounded so, a scale a token; absent: they were not"),
  trainedOn: z
    .number()
    .optional()
    .describe("Share of the text that this checkpoint was trained on, where there is any (--force)"),
});
export type ModelEvaluation = z.infer<typeof modelEvaluation>;
export type RoutingFidelityLayer = z.infer<typeof routingFidelityLayer>;
export type CheckpointCost = z.infer<typeof checkpointCost>;

const change = z.object({ mean: z.number(), interval95: z.tuple([z.number(), z.number()]) });

/** Paired studentised bootstrap over held-out text of KL before minus KL after. */
export const comparison = z.object({
  metric: z.enum(["klToTeacher", "nllPerToken"]),
  before: z.number(),
  after: z.number(),
  /** before - after, nats a token: positive is better. */
  gain: z.number(),
  gainInterval95: z.tuple([z.number(), z.number()]),
  /** gain / before for KL. */
  recoveredShare: z.number(),
  verdict: z.enum(verdicts),
  units: z
    .int()
    .optional()
    .describe("Units resampled: sequences, or documents where one spans several; absent in files of earlier versions"),
  trainedOn: z
    .number()
    .optional()
    .describe("Share of the evaluation text that is in the calibration text too, where there is any (--force)"),
  resamples: z.int(),
  task: z
    .object({ accuracy: change, accuracyNormalised: change })
    .optional()
    .describe("Accuracy after minus before on the same items: positive is better"),
});
export type Comparison = z.infer<typeof comparison>;

export const evaluationFile = z.object({
  schemaVersion: z.literal(1),
  data: z.object({
    path: z.string(),
    sha256: z.string(),
    sequences: z.int(),
    sequenceLength: z.int(),
    perSequence: z
      .object({ tokens: z.array(z.int()), units: z.array(z.int()) })
      .optional()
      .describe("Target positions of each sequence, and the unit of text that it is resampled with"),
  }),
  teacher: modelEvaluation.nullable(),
  before: modelEvaluation.nullable(),
  after: modelEvaluation.nullable(),
  comparison: comparison.nullable(),
  /** Of a pipeline: the checkpoint that each step left, and what the step did to it; the rest is what its last step says. */
  steps: z
    .array(
      z.object({
        number: z.int(),
        name: z.string(),
        evaluation: modelEvaluation,
        change: comparison.nullable().describe("From the step before on the same sequences; null for the first"),
      }),
    )
    .optional(),
});
export type EvaluationFile = z.infer<typeof evaluationFile>;
