import { createHash } from "node:crypto";
import { access, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { copyTensor } from "../../../src/engine/checkpoint/tensorSource";
import { writeCheckpoint } from "../../../src/engine/checkpoint/write";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import type { HeavyWork } from "../../../src/engine/run/work";
import { createRandom } from "../../../src/engine/tensor/random";
import type { ModelEvaluation } from "../../../src/protocol/evaluation";

export interface FakeWork extends HeavyWork {
  /** What was called, in order; a calibration lists its updates. */
  calls: string[];
  /** Called before each of these steps; throw in it to interrupt. */
  onStep: (step: string) => void | Promise<void>;
}

/** Work without a model: random but seeded observations, a calibration that copies its student, made-up losses. */
export function fakeWork(): FakeWork {
  const work: FakeWork = {
    calls: [],
    onStep: () => undefined,
    profile: async ({ model, sequences, observer, report }) => {
      const numTokens = sequences.ids.length;
      for (const { layer, moe } of moeLayers(model.description)) {
        await step(work, `profile ${layer}`);
        const { numExperts, numExpertsPerToken: k } = moe;
        const random = createRandom(1, layer);
        const slots = numTokens * k;
        const { hiddenSize } = model.description;
        observer.observe({
          layer,
          numTokens,
          numRouterRows: numExperts,
          numExperts,
          numExpertsPerToken: k,
          hiddenSize,
          firstToken: 0,
          routerLogits: Float32Array.from({ length: numTokens * numExperts }, () => random.normal()),
          selectedIds: Int32Array.from({ length: slots }, (_, i) => (i % k) * 2 + random.below(2)),
          routingWeights: Float32Array.from({ length: slots }, () => random.uniform()),
          outputs: {
            norms: Float32Array.from({ length: slots }, () => random.uniform()),
            maxima: new Float32Array(slots).fill(1),
            absoluteMaxima: new Float32Array(slots).fill(1),
            sums: new Float32Array(numExperts * hiddenSize).fill(0.5),
            inputOutputCosine: new Float32Array(numTokens),
          },
        });
        report({
          stage: "profile",
          message: "Profiling",
          done: layer + 1,
          total: model.description.layers.length,
          unit: "steps",
        });
      }
    },
    previewAgreement: ({ sequences }) =>
      Promise.resolve({
        ...{ sequences: 1, tokens: sequences.sequenceLength, topKOverlap: 0.75, reapRank: 0.5 },
        worstLayer: { layer: 0, topKOverlap: 0.5 },
      }),
    weightCosines: () => Promise.resolve(new Map()),
    measureDense: async ({ teacher, build }) => {
      await step(work, "measure dense");
      const chosen = Array.from({ length: build.experts ?? 2 }, (_, e) => e);
      const plan = { experts: chosen, scales: chosen.map(() => 0.5), residual: 0.25 };
      return Object.fromEntries(moeLayers(teacher.description).map(({ layer }) => [String(layer), plan]));
    },
    calibrate: async ({ student, output, stateDirectory, onMetrics, options }) => {
      const state = path.join(stateDirectory, "train-state.safetensors");
      let done = (await exists(state)) ? Number(await readFile(state, "utf8")) : 0;
      while (done < 4) {
        await step(work, `update ${done + 1}`);
        done += 1;
        await onMetrics({
          kind: "update",
          step: done,
          loss: 1 / done,
          learningRate: options.learningRate,
          gradientNorm: 1,
          tokens: 8,
          seconds: 1,
        });
        await onMetrics({ kind: "held-out", step: done, kl: 1 / done, nll: 3, best: true });
        await writeFile(state, String(done));
      }
      await step(work, "write calibrated");
      await writeCheckpoint({
        directory: output.directory,
        tensors: [...student.checkpoint.tensors.values()].map((entry) => copyTensor(entry)),
        config: student.checkpoint.config,
        copyFilesFrom: student.checkpoint.directory,
        extraFiles: { "reroute.json": JSON.stringify({ ...output.provenance, kind: "calibrated" }) },
        runId: output.runId,
        leaveMarker: true,
      });
      await step(work, "calibrated");
      return { bestStep: 4, totalUpdates: 4, heldOutBefore: 1, heldOutAfter: 0.25, trained: ["made.up.gate.weight"] };
    },
    evaluate: async ({ model, teacher, sequences }) => {
      await step(work, `evaluate ${path.basename(model.checkpoint.directory)}`);
      return madeUpEvaluation(model.checkpoint.directory, teacher !== null, sequences.numSequences);
    },
    probeExperts: async ({ student, active, sequences }) => {
      await step(work, "probe experts");
      const estimate = (mean: number) => ({ mean, halfWidth95: 0.01 });
      return {
        ...{ sequences: sequences.numSequences, tokens: sequences.numSequences * 31, ownActive: 2 },
        rows: active.map((n) => ({
          ...{ active: n, loss: estimate(3 + n / 8), klToOwn: estimate(n / 8) },
          klOfStudent: student ? estimate(0.5 + n / 8) : null,
        })),
        gateMass: [0, 1].map((layer) => ({ layer, activated: 0.75, sorted: [0.5, 0.25, 0.125, 0.125] })),
        studentLoss: student ? estimate(3.5) : null,
      };
    },
    probe: async () => ({
      forward: { secondsPerChunk: 0.01, secondsPerToken: 0.001 },
      observed: { secondsPerChunk: 0.01, secondsPerToken: 0.0012 },
      update: { secondsPerChunk: 0.03, secondsPerToken: 0.004 },
      ...{ headTokensPerSecond: 5000, headUpdateTokensPerSecond: 2000 },
      ...{
        compileForwardSeconds: 0.1,
        compileObservedSeconds: 0.1,
        compileUpdateSeconds: 0.3,
        disk: { readBytesPerSecond: 1e9, writeBytesPerSecond: 1e9, bufferBytesPerSecond: 1e9 },
      },
      assumption: "made up",
    }),
  };
  return work;
}

/** Losses that depend on the folder's name only. */
export function madeUpEvaluation(checkpoint: string, isStudent: boolean, numSequences: number): ModelEvaluation {
  const seed = createHash("sha256").update(path.basename(checkpoint)).digest().readUInt32LE(0);
  const random = createRandom(seed);
  const base = path.basename(checkpoint) === "compressed" ? 0.4 : 0.2;
  const kl = isStudent ? Array.from({ length: numSequences }, () => base + 0.01 * random.uniform()) : null;
  const nll = Array.from({ length: numSequences }, () => 3 + (isStudent ? base : 0) + 0.01 * random.uniform());
  const mean = (values: number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;
  const estimate = { mean: mean(nll), halfWidth95: 0.01 };
  return {
    checkpoint,
    tokens: numSequences * 31,
    sequences: numSequences,
    nllPerToken: mean(nll),
    perplexity: Math.exp(mean(nll)),
    klToTeacher: kl && mean(kl),
    top1Agreement: kl && 0.9,
    uncertainty: {
      nllPerToken: estimate,
      klToTeacher: kl && { mean: mean(kl), halfWidth95: 0.005 },
      top1Agreement: kl && { mean: 0.9, halfWidth95: 0.02 },
    },
    perSequence: { nll, kl, top1: kl && kl.map(() => 0.9) },
    byDomain: {},
    routing: isStudent
      ? [0, 1].map((layer) => ({
          layer,
          routingKl: base * (layer + 1),
          l1: 0.3,
          topKOverlap: 0.8,
          klByExpert: [0.1, null, 0.2, 0.1],
        }))
      : null,
    expertMapping: isStudent ? { "0": [[0], [2], [3]], "1": [[0], [2], [3]] } : null,
    cost: {
      parametersTotal: 1e6,
      parametersActive: 4e5,
      bytes: 2e6,
      flopsPerToken: 8e5,
      tokensPerSecond: 5000,
      peakMemoryBytes: 3e8,
    },
  };
}

async function step(work: FakeWork, name: string): Promise<void> {
  await work.onStep(name);
  work.calls.push(name);
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
