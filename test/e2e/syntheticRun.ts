/** A run folder of a large model without the model: seeded numbers in files of the right form, for measuring pages. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { emptyLayerStatistics, statisticsFields } from "../../src/engine/routing/layerStatistics";
import { saveRoutingStatistics } from "../../src/engine/routing/statisticsFile";
import type { EvaluationFile, ModelEvaluation } from "../../src/protocol/evaluation";
import { runFile } from "../../src/protocol/run";
import { random } from "../webview/samples";

export async function syntheticRun(runsFolder: string, id: string, layers: number, experts: number): Promise<string> {
  const run = path.join(runsFolder, id);
  mkdirSync(run, { recursive: true });
  const next = random(experts);
  const hiddenSize = 8;
  await saveRoutingStatistics(path.join(run, "routing-statistics.safetensors"), {
    checkpoint: "/models/synthetic",
    fingerprint: "0".repeat(64),
    domainNames: ["text"],
    layers: Array.from({ length: layers }, (_, layer) => {
      const statistics = emptyLayerStatistics({ layer, numExperts: experts, numExpertsPerToken: 8, hiddenSize }, 1);
      for (const field of statisticsFields) {
        const values = statistics[field];
        const whole = field === "frequency" || field === "tokens";
        for (let i = 0; i < values.length; i++) values[i] = whole ? Math.floor(1000 * next()) : next() - 0.5;
      }
      statistics.tokens[0] = 100_000;
      return statistics;
    }),
  });
  const model = (scale: number): ModelEvaluation => ({
    checkpoint: "/models/synthetic-student",
    tokens: 1000,
    sequences: 2,
    nllPerToken: 2,
    perplexity: Math.exp(2),
    klToTeacher: scale,
    top1Agreement: 0.8,
    uncertainty: {
      nllPerToken: { mean: 2, halfWidth95: 0.1 },
      klToTeacher: { mean: scale, halfWidth95: 0.01 },
      top1Agreement: { mean: 0.8, halfWidth95: 0.01 },
    },
    perSequence: { nll: [2, 2], kl: [scale, scale], top1: [0.8, 0.8] },
    byDomain: {},
    routing: Array.from({ length: layers }, (_, layer) => ({
      layer,
      routingKl: scale * next(),
      l1: next(),
      topKOverlap: next(),
      klByExpert: Array.from({ length: experts }, () => (next() < 0.4 ? null : scale * (next() - 0.3))),
    })),
    expertMapping: null,
    cost: {
      parametersTotal: 1e9,
      parametersActive: 1e8,
      bytes: 2e9,
      flopsPerToken: 2e8,
      tokensPerSecond: 100,
      peakMemoryBytes: 1e9,
    },
  });
  const evaluation: EvaluationFile = {
    schemaVersion: 1,
    data: { path: "/texts/held-out.jsonl", sha256: "0".repeat(64), sequences: 2, sequenceLength: 512 },
    teacher: null,
    before: model(0.3),
    after: model(0.2),
    comparison: null,
  };
  writeFileSync(path.join(run, "evaluation.json"), JSON.stringify(evaluation));
  const file = runFile.parse({
    schemaVersion: 1,
    id,
    name: `synthetic ${layers} x ${experts}`,
    createdAt: "2026-01-01T00:00:00.000Z",
    reroute: "0.1.0",
    recipe: {
      schemaVersion: 1,
      teacher: "/models/synthetic",
      data: { calibration: "/texts/a.jsonl" },
      output: "/models/out",
    },
    baseFolder: runsFolder,
    versions: {},
    stages: (["profile", "evaluate"] as const).map((stage) => ({
      id: stage,
      state: "done",
      startedAt: null,
      finishedAt: null,
      seconds: 1,
      peakMemoryBytes: null,
      inputHash: null,
      error: null,
    })),
    preflight: null,
  });
  writeFileSync(path.join(run, "run.json"), JSON.stringify(file));
  return run;
}
