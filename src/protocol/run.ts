import { z } from "zod";
import { distillationFiles } from "./distillation";
import { executionProviders, recipeSchema } from "./recipe";

/** run.json: the state of a run folder. Rewritten atomically at every change of a stage. */

export const stageIds = ["profile", "compress", "calibrate", "evaluate", "report"] as const;
export type StageId = (typeof stageIds)[number];
export const stageStates = ["pending", "running", "done", "failed", "cancelled", "skipped"] as const;

/** The beginning of a text as sequences hold it; `tokens` of each count, `special` of them are special tokens, `padding` does not count. */
export const textPreview = z.object({
  role: z.enum(["calibration", "evaluation"]),
  path: z.string(),
  wanted: z.number(),
  sequences: z.array(
    z.object({
      text: z.string(),
      tokens: z.number(),
      special: z.number(),
      padding: z.number(),
      domains: z.array(z.string()),
    }),
  ),
  /** What had to be assumed to read it. */
  notes: z.array(z.string()),
});
export type TextPreview = z.infer<typeof textPreview>;

export const preflightSchema = z.object({
  parametersBefore: z.number(),
  parametersAfter: z.number(),
  bytesBefore: z.number(),
  bytesAfter: z.number(),
  /** Disk that the run will need beyond what it has, and what is free where it would be written. */
  diskNeededBytes: z.number(),
  diskFreeBytes: z.number(),
  peakMemoryBytes: z.number(),
  memoryBudgetBytes: z.number(),
  /** The execution provider that would compute: of `auto`, the one it stands for here. */
  provider: z.enum(executionProviders).optional(),
  stages: z.array(
    z.object({
      stage: z.enum(stageIds),
      /** Of a pipeline: its step, from 1. */
      step: z.int().optional(),
      seconds: z.number(),
      /** Of these, what is the teacher's alone: cells of a comparison do it once for all. */
      teacherSeconds: z.number().optional(),
      peakMemoryBytes: z.number(),
      assumption: z.string(),
      /** What workers can share: seconds of one machine, in so many equal parts, and why there are no more. */
      spread: z.array(z.object({ seconds: z.number(), parts: z.int(), limit: z.string() })).optional(),
    }),
  ),
  seconds: z.number(),
  /** The run whose finished profile of the same text is taken over. */
  profileOf: z.object({ name: z.string(), runDirectory: z.string() }).optional(),
  /** Of a pipeline: what each step leaves and takes, predicted from the step before. */
  steps: z
    .array(
      z.object({
        name: z.string(),
        parameters: z.number(),
        bytes: z.number(),
        seconds: z.number(),
        peakMemoryBytes: z.number(),
      }),
    )
    .optional(),
  /** What calibration may change: the scope, its numbers, and the names of the tensors; null without a calibration. */
  trained: z
    .object({ scope: z.string(), parameters: z.number(), tensors: z.array(z.string()) })
    .nullable()
    .optional(),
  /** Where it was asked for. */
  texts: z.array(textPreview).optional(),
  /** What would be refused, with its code; empty when the run can start. */
  refusals: z.array(z.object({ code: z.string(), message: z.string() })),
  warnings: z.array(z.string()),
});
export type Preflight = z.infer<typeof preflightSchema>;

export const stageRecord = z.object({
  id: z.enum(stageIds),
  /** Of a pipeline: its step, from 1, whose own run.json says the same. */
  step: z.int().optional(),
  state: z.enum(stageStates),
  startedAt: z.string().nullable(),
  finishedAt: z.string().nullable(),
  /** Seconds of work over all attempts. */
  seconds: z.number(),
  peakMemoryBytes: z.number().nullable(),
  /** Hash of everything the stage read; a changed input invalidates it and what follows. */
  inputHash: z.string().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  /** Of a finished stage: names, sizes and times of the weight files given to the run, where fingerprints are samples. */
  weightStamp: z.string().nullable().optional(),
  /** Of a finished calibration: the tensors that were trained, numbers that differ gathered in braces. */
  trained: z.array(z.string()).optional(),
});
export type StageRecord = z.infer<typeof stageRecord>;

export const runFile = z.object({
  schemaVersion: z.literal(1),
  id: z.string(),
  name: z.string(),
  createdAt: z.string(),
  reroute: z.string().describe("Version that made the run"),
  recipe: recipeSchema,
  /** Folder that the recipe's relative paths start from. */
  baseFolder: z.string(),
  versions: z.record(z.string(), z.string()),
  /**
   * Threads, provider and memory budget as they were decided when the run began. They shape how work is cut up, and with
   * it the last bits of sums, so a resumed run uses them again whatever the machine has free by then.
   */
  runtime: z
    .object({ threads: z.int().min(1), provider: z.enum(executionProviders), memoryBudgetBytes: z.number().min(0) })
    .nullable()
    .default(null),
  /** How sums over tokens are cut: tokens of a leaf, and of a block of leaves that are added in a tree. */
  leaves: z.object({ tokens: z.int().min(1), blockTokens: z.int().min(1) }).optional(),
  /** Where work was spread: the arithmetic that workers had, by the hash of a fixed graph's outputs, and for people. */
  numerics: z.object({ hash: z.string(), about: z.string() }).optional(),
  stages: z.array(stageRecord),
  preflight: preflightSchema.nullable(),
});
export type RunFile = z.infer<typeof runFile>;

/** Folders of a pipeline's run folder. */
export const stepFiles = {
  /** One run folder a step. */
  steps: "steps",
  /** Profiles, teacher targets and evaluations, named by what they were made from. */
  shared: "shared",
} as const;

/** Files of a run folder. */
export const runFiles = {
  run: "run.json",
  statistics: "routing-statistics.safetensors",
  /** Statistics of a profile that is not done; its hidden states lie in `profile-hidden-*.f32`. */
  profileState: "profile-state.safetensors",
  plan: "compression-plan.json",
  /** The experts that a dense student is built of: see denseStudent.ts. */
  denseStudent: "dense-student.json",
  metrics: "metrics.jsonl",
  trainState: "train-state.safetensors",
  evaluation: "evaluation.json",
  /** The first tokens of the evaluated text, each with its loss and KL. */
  evaluationTokens: "evaluation-tokens.json",
  /** Figures of distillation, and their numbers as a table: see distillation.ts. */
  distillation: distillationFiles.json,
  distillationTable: distillationFiles.csv,
  report: "report.html",
  reportMarkdown: "report.md",
  log: "log.jsonl",
  /** Where work is spread: who works on what, and the timeline of tiles (workers.ts). */
  workers: "workers.json",
  workersTimeline: "workers.jsonl",
  lock: "lock.json",
  /** What people call the run: see labels.ts. */
  labels: "labels.json",
  /** The latest progress, while a process works here. */
  progress: "progress.json",
  /** Asks the process that works here to stop. */
  cancel: "cancel.json",
  /** The compressed checkpoint before calibration. */
  compressed: "compressed",
} as const;
