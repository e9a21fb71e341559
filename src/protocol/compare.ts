import { z } from "zod";
import { estimate } from "./evaluation";
import { verdicts } from "./verdict";
import { calibrateOptions } from "./calibrateOptions";
import { compressionMethods, type CompressionMethod } from "./methods";
import {
  compressOptions,
  dataOptions,
  maxSteps,
  memorySize,
  pipelineStep,
  providerChoices,
  recipeSchema,
} from "./recipe";
import type { Preflight } from "./run";

/** A comparison (`*.compare.reroute.json`) is a grid of runs over one teacher. Paths are relative to its folder. */

/** A way of teaching the comparison's student: its choices replace those of the comparison's `calibrate`. */
export const distillationArmOptions = z.strictObject({
  name: z
    .string()
    .regex(/^\w[\w .-]{0,39}$/, "letters, digits, spaces, dots and hyphens, at most 40")
    .describe("Names the arm and its cells"),
  seeds: z.array(z.int().min(0)).min(1).max(20).optional().describe("One cell a seed; default: the comparison's own"),
  ...calibrateOptions.pick({ divergence: true, mix: true, teacherRouting: true, onPolicy: true, match: true }).shape,
  learningRate: z.number().positive().optional(),
});
export type DistillationArmOptions = z.infer<typeof distillationArmOptions>;

export const comparisonGrid = z
  .strictObject({
    methods: z
      .array(z.enum(compressionMethods))
      .max(100)
      .default([])
      .describe("Compression methods, one row of cells each"),
    keep: z
      .array(compressOptions.shape.keep.unwrap())
      .max(100)
      .default([])
      .describe("Experts kept in each layer: fractions up to 1, or counts above 1"),
    pipelines: z
      .array(
        z.strictObject({
          name: z
            .string()
            .regex(/^\w[\w .-]{0,39}$/, "letters, digits, spaces, dots and hyphens, at most 40")
            .describe("Names the cell"),
          steps: z.array(pipelineStep).min(1).max(maxSteps),
        }),
      )
      .max(100)
      .optional()
      .describe("Pipelines, one cell each; their own steps calibrate, `calibrate` of the comparison does not"),
    arms: z
      .array(distillationArmOptions)
      .max(100)
      .optional()
      .describe("Ways of teaching `student`, each with `calibrate` of the comparison but for what it names"),
    baseline: z.string().optional().describe("The arm that others are compared with; default: the first"),
  })
  .refine(
    ({ methods, keep, pipelines = [], arms = [] }) =>
      (methods.length > 0 ? keep.length > 0 : pipelines.length + arms.length > 0) &&
      areDifferent(pipelines.map(({ name }) => pipelineId(name))) &&
      areDifferent(arms.flatMap(({ name, seeds = [0] }) => seeds.map((seed) => armId(name, seed)))),
    {
      path: ["methods"],
      message:
        "a grid needs methods with ratios to keep, pipelines, or arms, each of another name and its seeds different",
    },
  )
  .refine(({ arms = [], baseline }) => baseline === undefined || arms.some(({ name }) => name === baseline), {
    path: ["baseline"],
    message: "the baseline is the name of an arm",
  });

function areDifferent(names: readonly string[]): boolean {
  return new Set(names).size === names.length;
}

/** What `reroute score` measures, for the student of each arm. */
export const scoreOptions = z
  .strictObject({
    data: z.string().min(1).describe("Instructions with their answers"),
    column: z.string().min(1).optional().describe("Column with the messages; default: told from the columns there are"),
    most: z.int().min(1).default(100).describe("Instructions used, in file order"),
    seeds: z.array(z.int().min(0)).min(1).max(20).default([10, 20, 30, 40, 50]).describe("Seeds of sampling"),
    maxNewTokens: z.int().min(1).default(128),
    temperature: z.number().positive().optional(),
    topP: z.number().positive().max(1).optional(),
  })
  .describe("ROUGE-L of each arm's student: sampled responses to instructions against their answers");
export type ScoreOptions = z.infer<typeof scoreOptions>;

export const comparisonRecipeSchema = z
  .strictObject({
    $schema: z.string().optional(),
    schemaVersion: z.literal(1),
    name: z.string().max(100).optional().describe("A name for people"),
    teacher: recipeSchema.shape.teacher,
    student: recipeSchema.shape.student.describe("The checkpoint that arms teach; for them alone"),
    data: dataOptions
      .omit({ splitEvaluation: true })
      .extend({ evaluation: z.string().min(1).describe("Held-out text that every cell is measured on") })
      .describe("Texts, the same for every cell"),
    grid: comparisonGrid,
    /** Options that all methods share. */
    compress: compressOptions
      .pick({ multipleOf: true, protectSuperExperts: true, reapWeights: true, groupLimits: true })
      .optional()
      .describe("Options of every method"),
    methodOptions: z
      .partialRecord(z.enum(compressionMethods), compressOptions.shape.options.unwrap())
      .default({})
      .describe("Options of single methods, by method"),
    calibrate: calibrateOptions
      .optional()
      .describe("Router KD of every cell; each cell is measured before and after it. Absent: compression alone"),
    score: scoreOptions.optional(),
    output: z
      .string()
      .min(1)
      .optional()
      .describe("Folder of the comparison; default .reroute/runs/<file name> beside the file"),
    seed: z.int().min(0).default(42),
    memory: memorySize.optional(),
    threads: z.int().min(1).max(1024).optional(),
    provider: z.enum(providerChoices).default("auto"),
  })
  .refine(({ grid, student, calibrate }) => !grid.arms || (student !== undefined && calibrate !== undefined), {
    path: ["student"],
    message: "arms teach a student: name it, and what they have in common in calibrate",
  })
  .refine(({ grid, score }) => score === undefined || grid.arms !== undefined, {
    path: ["score"],
    message: "responses are scored of the students that arms teach, and the grid has none",
  })
  .describe("Reroute comparison: compression methods x keep ratios over one teacher, before and after calibration");
export type ComparisonRecipe = z.infer<typeof comparisonRecipeSchema>;

/** What evaluation.json of a cell says about one checkpoint. */
export const comparedCheckpoint = z.object({
  parametersTotal: z.number(),
  parametersActive: z.number(),
  bytes: z.number(),
  klToTeacher: estimate.nullable().describe("nats a token, with the half width of the 95 % bootstrap interval"),
  nllPerToken: estimate.describe("nats a token"),
  top1Agreement: z.number().nullable(),
  tokensPerSecond: z.number().nullable(),
  peakMemoryBytes: z.number().nullable(),
});
export type ComparedCheckpoint = z.infer<typeof comparedCheckpoint>;

export const comparisonCell = z.object({
  id: z.string().describe("Folder of the cell's run below cells/"),
  method: z.enum(compressionMethods).nullable().describe("null for a pipeline or an arm"),
  keep: z.number().nullable(),
  pipeline: z.string().optional().describe("Name of the pipeline that the cell is"),
  arm: z.string().optional().describe("Name of the arm that the cell is"),
  seed: z.int().optional().describe("Of an arm"),
  state: z.enum(["pending", "done", "failed"]),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  before: comparedCheckpoint.nullable(),
  after: comparedCheckpoint.nullable(),
  verdict: z.enum(verdicts).nullable(),
  trainedOn: z.number().optional().describe("Share of the evaluation text that was trained on, where there is any"),
  gain: z.number().nullable().describe("KL before minus KL after, nats a token: positive is better"),
  gainInterval95: z.tuple([z.number(), z.number()]).nullable(),
  recoveredShare: z.number().nullable(),
  lostToDropping: z
    .string()
    .optional()
    .describe("Where a merge's layers are further from the original than its dominant experts alone: one line"),
  seconds: z.number().describe("Work of all the cell's stages"),
});
export type ComparisonCell = z.infer<typeof comparisonCell>;

/** comparison.json: the grid with what is known of each cell. Rewritten after every cell. */
export const comparisonFile = z.object({
  schemaVersion: z.literal(1),
  name: z.string(),
  reroute: z.string().describe("Version that wrote the file"),
  recipe: comparisonRecipeSchema,
  baseFolder: z.string().describe("Folder that the recipe's relative paths start from"),
  teacher: comparedCheckpoint.nullable(),
  cells: z.array(comparisonCell),
});
export type ComparisonFile = z.infer<typeof comparisonFile>;

/** What one cell would take if it were alone, or why nothing can be said of it. */
export type CellForecast = { id: string; method: CompressionMethod | null; keep: number | null } & (
  { preflight: Preflight; error: null } | { preflight: null; error: { code: string; message: string } }
);

/** Pre-flight of a comparison. `seconds`: all cells that can be worked, with one profile and one teacher for all of them. */
export interface ComparisonForecast {
  seconds: number;
  cells: CellForecast[];
}

/** A comparison's folder in a list of runs. Its cells are runs of their own, in `<directory>/cells`. */
export interface ComparisonSummary {
  directory: string;
  name: string;
  /** "failed": nothing is left to do, and some cells failed. */
  state: "running" | "done" | "failed" | "interrupted";
  /** Cells of the grid, and how many of them are done and failed. */
  cells: number;
  done: number;
  failed: number;
  tags: string[];
}

/** The cell being worked on. */
export interface CellProgress {
  id: string;
  /** From 1. */
  number: number;
  total: number;
  /** For this cell and those behind it, when it began; null where nothing can be predicted. */
  remainingSeconds: number | null;
}

/** "grid.compare.reroute.json" -> "grid": what a comparison is called whose file gives it no name. */
export function comparisonNameOf(fileName: string): string {
  return fileName.replace(/(\.compare)?(\.reroute)?\.json$/, "");
}

/** Files of a comparison's folder. */
export const comparisonFiles = {
  comparison: "comparison.json",
  csv: "comparison.csv",
  report: "comparison.html",
  reportMarkdown: "comparison.md",
  /** One run folder a cell. */
  cells: "cells",
  /** Profile, teacher targets and the teacher's evaluation, named by what they were made from. */
  shared: "shared",
} as const;

/** Name of a pipeline's folder. */
export function pipelineId(name: string): string {
  return `pipeline-${name.toLowerCase().replaceAll(" ", "-")}`;
}

/** Name of an arm's folder. */
export function armId(name: string, seed: number): string {
  return `arm-${name.toLowerCase().replaceAll(" ", "-")}-${seed}`;
}

/** Name of a cell's folder, e.g. "reap-0.625". */
export function cellId(method: CompressionMethod, keep: number): string {
  return `${method}-${keep}`;
}
