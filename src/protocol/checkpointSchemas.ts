import * as z from "zod/mini";
import type { CheckpointSummary, TensorRow, TensorStatistics } from "./checkpointSummary";

/** Schemas of what a checkpoint's pages are shown with, as panelSchemas.ts has them for panels. */

const number = z.number();
const nullableNumber = z.nullable(number);
const int = z.int();

const parametersAndBytes = z.object({ parameters: number, bytes: number });

export const checkpointSummary: z.ZodMiniType<CheckpointSummary> = z.object({
  path: z.string(),
  modelType: z.nullable(z.string()),
  supported: z.boolean(),
  unsupportedReason: z.nullable(z.string()),
  parametersTotal: number,
  parametersActive: nullableNumber,
  bytes: number,
  shards: int,
  tensors: int,
  dtypes: z.record(z.string(), z.object({ tensors: number, bytes: number })),
  vocabSize: nullableNumber,
  hiddenSize: nullableNumber,
  numLayers: nullableNumber,
  numExpertsPerToken: nullableNumber,
  routingGroups: z.exactOptional(int),
  layers: z.array(
    z.object({
      index: int,
      parameters: number,
      bytes: number,
      moe: z.nullable(
        z.object({
          numExperts: int,
          routerTensor: z.string(),
          router: parametersAndBytes,
          experts: parametersAndBytes,
          sharedExperts: z.nullable(parametersAndBytes),
        }),
      ),
    }),
  ),
  otherParts: z.array(z.object({ name: z.string(), layers: int, parameters: number, bytes: number })),
  unread: z.array(z.object({ pattern: z.string(), tensors: int, parameters: number, ofDecoder: z.boolean() })),
  notes: z.array(z.string()),
  provenance: z.nullable(
    z.object({
      kind: z.enum(["compressed", "calibrated"]),
      teacherPath: z.string(),
      method: z.nullable(z.string()),
    }),
  ),
});

function isTensorRow(value: unknown): value is TensorRow {
  if (typeof value !== "object" || value === null) return false;
  const row = value as Partial<Record<keyof TensorRow, unknown>>;
  return (
    typeof row.name === "string" &&
    typeof row.dtype === "string" &&
    typeof row.shard === "string" &&
    typeof row.bytes === "number" &&
    Array.isArray(row.shape) &&
    row.shape.every((size) => typeof size === "number")
  );
}

export const tensorRows = z.custom<TensorRow[]>(
  (value) => Array.isArray(value) && value.every(isTensorRow),
  "expected an array of tensor rows",
);

const numbersOf = {
  name: z.string(),
  count: number,
  finite: number,
  min: number,
  max: number,
  mean: number,
  standardDeviation: number,
  zeros: number,
  histogram: z.object({ edges: z.array(number), counts: z.array(number) }),
};

export const tensorStatistics: z.ZodMiniType<TensorStatistics> = z.object({
  ...numbersOf,
  packed: z.optional(
    z.object({
      form: z.string(),
      matrices: z.object({ read: int, all: int }),
      values: z.object(numbersOf),
      codes: z.nullable(z.object(numbersOf)),
      scales: z.array(z.object(numbersOf)),
    }),
  ),
});
