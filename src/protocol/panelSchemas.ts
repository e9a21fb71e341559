import * as z from "zod/mini";
import type {
  CalibrationPanelData,
  DistillationPanelData,
  DivergencePanelData,
  ExpertPanelData,
  MatrixData,
  PlanEdit,
  PlanView,
  RoutingPanelData,
  RunSummary,
  SimilarityPanelData,
  TextPanelData,
  TradeOffPanelData,
} from "./panels";
import { similarityMetrics } from "./panels";
import type { MetricsLine } from "./metrics";
import type { Progress } from "./progress";
import { verdicts } from "./verdict";

/**
 * Schemas of what crosses into a page, one for each interface of panels.ts. They are written with zod/mini, because
 * pages carry them: 18 kB instead of 93 kB a page. Long arrays are checked by one loop each, since a schema per element
 * costs more than drawing them (a 256 x 256 matrix, 100,000 tensor rows).
 */

const number = z.number();
const nullableNumber = z.nullable(number);
const int = z.int();

function isNumberOrNullArray(value: unknown): value is (number | null)[] {
  return Array.isArray(value) && value.every((v) => v === null || (typeof v === "number" && Number.isFinite(v)));
}

export const matrixData: z.ZodMiniType<MatrixData> = z
  .object({
    rows: int.check(z.minimum(0)),
    columns: int.check(z.minimum(0)),
    values: z.custom<(number | null)[]>(isNumberOrNullArray, "expected an array of finite numbers and nulls"),
  })
  .check(z.refine((m) => m.values.length === m.rows * m.columns, "values must hold rows * columns entries"));

const routingDomain = z.object({
  tokens: number,
  utilisation: matrixData,
  frequency: matrixData,
  meanRoutingWeight: matrixData,
  layers: z.array(
    z.object({
      layer: int,
      coefficientOfVariation: number,
      normalisedEntropy: number,
      neverUsed: int,
      selectedMass: nullableNumber,
      topKMargin: nullableNumber,
      tokenEntropy: nullableNumber,
    }),
  ),
});

export const routingPanelData: z.ZodMiniType<RoutingPanelData> = z.object({
  checkpoint: z.string(),
  tokens: number,
  numExpertsPerToken: int,
  layers: z.array(int),
  numExperts: int,
  domains: z.array(z.string()),
  byDomain: z.record(z.string(), routingDomain),
  neverUsed: z.array(z.tuple([int, int])),
  preview: z.exactOptional(
    z.object({
      ...{ sequences: int, tokens: int, topKOverlap: number, reapRank: number },
      worstLayer: z.object({ layer: int, topKOverlap: number }),
    }),
  ),
});

const divergenceData = z.object({
  kl: matrixData,
  byLayer: z.array(z.object({ layer: int, routingKl: number, l1: number, topKOverlap: number })),
});

export const divergencePanelData: z.ZodMiniType<DivergencePanelData> = z.object({
  teacher: z.string(),
  student: z.string(),
  layers: z.array(int),
  numExperts: int,
  mapping: z.object({ kind: z.enum(["identity", "kept", "merged"]), description: z.string() }),
  before: z.nullable(divergenceData),
  after: z.nullable(divergenceData),
});

export const distillationPanelData: z.ZodMiniType<DistillationPanelData> = z.object({
  figures: z.array(
    z.object({
      title: z.string(),
      xAxis: z.string(),
      yAxis: z.string(),
      series: z.array(
        z.object({
          name: z.string(),
          points: z.array(z.object({ x: number, y: number, halfWidth95: nullableNumber })),
        }),
      ),
      rows: z.nullable(z.object({ head: z.array(z.string()), cells: z.array(z.array(z.string())) })),
    }),
  ),
});

export const similarityMetric = z.enum(similarityMetrics);

export const similarityPanelData: z.ZodMiniType<SimilarityPanelData> = z.object({
  layers: z.array(int),
  layer: int,
  metric: similarityMetric,
  available: z.array(similarityMetric),
  numExperts: int,
  matrix: matrixData,
  dendrogramOrder: z.array(int),
  groups: z.array(z.array(int)),
  dropped: z.array(int),
});

const numberArray = z.custom<number[]>(
  (value) => Array.isArray(value) && value.every((v) => typeof v === "number" && Number.isFinite(v)),
  "expected an array of finite numbers",
);
const stringArray = z.custom<string[]>(
  (value) => Array.isArray(value) && value.every((v) => typeof v === "string"),
  "expected an array of texts",
);
const numberOrNullArray = z.custom<(number | null)[]>(
  isNumberOrNullArray,
  "expected an array of finite numbers and nulls",
);

export const expertPanelData: z.ZodMiniType<ExpertPanelData> = z.object({
  layer: int,
  expert: int,
  numExperts: int,
  tokens: number,
  routed: number,
  meanRoutingWeight: nullableNumber,
  domains: z.array(z.object({ name: z.string(), tokens: number, routed: number })),
  scores: z.array(z.object({ method: z.string(), score: nullableNumber, place: nullableNumber, of: int })),
  fate: z.nullable(z.object({ dropped: z.boolean(), text: z.string() })),
  top: z.nullable(
    z.array(
      z.object({
        position: int,
        sequence: int,
        domain: z.string(),
        weight: number,
        before: z.string(),
        token: z.string(),
        after: z.string(),
      }),
    ),
  ),
  similar: z.array(z.object({ metric: similarityMetric, values: numberOrNullArray })),
});

const evaluatedTokens = z.nullable(z.object({ nll: numberOrNullArray, kl: z.nullable(numberOrNullArray) }));

const evaluatedText = z
  .object({
    sequenceLength: int.check(z.minimum(1)),
    tokens: stringArray,
    before: evaluatedTokens,
    after: evaluatedTokens,
  })
  .check(
    z.refine(
      ({ tokens, before, after }) =>
        [before, after].every(
          (of) => !of || [of.nll, of.kl ?? of.nll].every((values) => values.length === tokens.length),
        ),
      "nll and kl must hold what each token has",
    ),
  );

export const textPanelData: z.ZodMiniType<TextPanelData> = z
  .object({
    layers: z.array(int),
    layer: int,
    numExperts: int,
    numExpertsPerToken: int.check(z.minimum(1)),
    sequenceLength: int.check(z.minimum(1)),
    tokens: stringArray,
    experts: numberArray,
    weights: numberArray,
    entropy: numberArray,
    evaluated: z.nullable(evaluatedText),
  })
  .check(
    z.refine(
      ({ tokens, experts, weights, entropy, numExpertsPerToken: k }) =>
        experts.length === tokens.length * k && weights.length === experts.length && entropy.length === tokens.length,
      "experts, weights and entropy must hold what each token has",
    ),
  );

export const calibrationPanelData: z.ZodMiniType<CalibrationPanelData> = z.object({
  loss: z.optional(z.enum(["kd", "lm", "kd+lm", "router-logits"])),
  provider: z.exactOptional(z.string()),
  updates: z.array(z.object({ step: int, loss: number, learningRate: number, gradientNorm: number })),
  heldOut: z.array(z.object({ step: int, kl: number, nll: number, best: z.boolean() })),
  totalUpdates: nullableNumber,
  bestStep: nullableNumber,
  verdict: z.nullable(z.object({ verdict: z.enum(verdicts), trainedOn: z.optional(z.number()), text: z.string() })),
});

export const metricsLineOfPage: z.ZodMiniType<MetricsLine> = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("update"),
    step: int,
    loss: number,
    learningRate: number,
    gradientNorm: number,
    tokens: int,
    seconds: number,
  }),
  z.object({ kind: z.literal("held-out"), step: int, kl: number, nll: number, best: z.boolean() }),
  z.object({
    kind: z.literal("resources"),
    stage: z.string(),
    at: z.string(),
    memoryBytes: number,
    bytesRead: number,
    bytesWritten: number,
    tokensPerSecond: nullableNumber,
  }),
]);

export const tradeOffPanelData: z.ZodMiniType<TradeOffPanelData> = z.object({
  points: z.array(
    z.object({
      run: z.string(),
      runDirectory: z.string(),
      label: z.string(),
      group: z.object({ id: z.string(), label: z.string() }),
      stage: z.enum(["teacher", "before", "after"]),
      method: z.nullable(z.string()),
      keep: z.nullable(z.string()),
      parametersTotal: number,
      bytes: number,
      klToTeacher: nullableNumber,
      nllPerToken: number,
      klHalfWidth: nullableNumber,
      nllHalfWidth: nullableNumber,
      tokensPerSecond: nullableNumber,
      peakMemoryBytes: nullableNumber,
      sizeRatio: z.exactOptional(nullableNumber),
      timeRatio: z.exactOptional(nullableNumber),
      latencyRatio: z.exactOptional(nullableNumber),
    }),
  ),
});

const planSize = z.object({ parameters: number, bytes: number });

export const planView: z.ZodMiniType<PlanView> = z.object({
  method: z.string(),
  paradigm: z.string(),
  checkpoint: z.nullable(z.string()),
  problem: z.nullable(z.string()),
  sizes: z.nullable(z.object({ whole: planSize, planned: z.nullable(planSize) })),
  layers: z.array(int),
  maps: z.array(
    z.object({
      id: z.string(),
      label: z.string(),
      quantity: z.string(),
      columnTitle: z.string(),
      columns: z.array(z.string()),
      values: numberOrNullArray,
      nullMeaning: z.nullable(z.string()),
      crossed: z.array(int),
      crossedMeaning: z.string(),
    }),
  ),
  amounts: z.array(
    z.object({
      layer: nullableNumber,
      name: z.string(),
      value: number,
      min: number,
      max: number,
      step: number,
      choices: z.nullable(z.array(number)),
      text: z.string(),
    }),
  ),
  counts: z.nullable(z.enum(["uniform", "by-layer"])),
  click: z.nullable(z.enum(["keep", "bits", "group"])),
  groups: z.array(z.array(z.object({ members: z.array(int), dominant: int }))),
  notes: z.array(z.string()),
});

export const planEdit: z.ZodMiniType<PlanEdit> = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("expert"), layer: int, expert: int }),
  z.object({ kind: z.literal("regroup"), layer: int, expert: int, to: z.nullable(int) }),
  z.object({ kind: z.literal("amount"), layer: z.nullable(int), name: z.string(), value: number }),
  z.object({ kind: z.literal("counts"), value: z.enum(["uniform", "by-layer"]) }),
]);

export const runSummary: z.ZodMiniType<RunSummary> = z.object({
  directory: z.string(),
  id: z.string(),
  name: z.string(),
  createdAt: z.string(),
  state: z.enum(["pending", "running", "done", "failed", "cancelled", "interrupted"]),
  stages: z.array(z.object({ id: z.string(), name: z.exactOptional(z.string()), state: z.string(), seconds: number })),
  steps: z.exactOptional(
    z.array(
      z.object({
        name: z.string(),
        parameters: number,
        bytes: number,
        klToTeacher: z.nullable(number),
        klHalfWidth: z.nullable(number),
      }),
    ),
  ),
  error: z.nullable(z.object({ code: z.string(), message: z.string() })),
  baseFolder: z.string(),
  teacher: z.string(),
  output: z.string(),
  method: z.nullable(z.string()),
  verdict: z.nullable(z.string()),
  klBefore: nullableNumber,
  klAfter: nullableNumber,
  provider: z.exactOptional(z.string()),
  tags: z.array(z.string()),
});

export const progressSchema: z.ZodMiniType<Progress> = z.object({
  stage: z.string(),
  message: z.string(),
  done: number,
  total: number,
  unit: z.enum(["tokens", "updates", "bytes", "steps"]),
  rate: z.exactOptional(number),
  remainingSeconds: z.exactOptional(number),
});
