import { aimerScores } from "../../src/engine/compression/pruning/aimer";
import { isPruningCriterion, pruningCriteria } from "../../src/engine/compression/pruning/criteria";
import { makePruningPlan } from "../../src/engine/compression/pruning/pruningPlan";
import { applyPlan, makePlan, methods, type MethodContext } from "../../src/engine/compression/methods";
import { measureComputeRates } from "../../src/engine/compression/cost/computeRates";
import { iteratesSubspaces, methodCost, secondsOf } from "../../src/engine/compression/cost/methodCost";
import { collectLayers } from "../../src/engine/execution/collectLayers";
import { profileCheckpoint } from "../../src/engine/execution/profile";
import { RoutingStatistics } from "../../src/engine/routing/collect";
import type { RoutingStatisticsData } from "../../src/engine/routing/layerStatistics";
import type { TokenSequences } from "../../src/engine/data/sequences";
import { ModelCache } from "../../src/engine/run/modelCache";
import type { OpenModel } from "../../src/engine/run/work";
import type { RuntimeOptions } from "../../src/engine/runtime/session";
import { compressOptions } from "../../src/protocol/recipe";
import type { CompressionMethod } from "../../src/protocol/methods";
import { gemmRate } from "./gemmRate";

export interface MethodJob {
  checkpoint: string;
  stateDirectory: string;
  method: CompressionMethod;
  options: Record<string, string | number | boolean>;
  sequences: number;
  sequenceLength: number;
  runtime: RuntimeOptions;
}

export interface MethodTime {
  seconds: number;
  /** f32 products, FLOP/s, mean of before and after. */
  gemmRate: number;
  /** What the pre-flight would have said of the method's own work, profile and passes left out. */
  predictedSeconds: number;
  predictedBytes: number;
  /** Seconds of one pass of the text through the model, and of the profile, where the method needs them. */
  passSeconds: number;
}

/** Plans and applies one method, from opened checkpoint to finished weights; nothing is written beyond the state folder. */
export async function methodWork(job: MethodJob): Promise<MethodTime> {
  const { runtime, stateDirectory, method } = job;
  const model = await new ModelCache().model(job.checkpoint);
  const sequences = someSequences(job, model.description.vocabSize);
  const options = compressOptions.parse({ method, keep: 0.625, options: job.options });
  const rates = await measureComputeRates(runtime, iteratesSubspaces(method));
  const before = await gemmRate(runtime, 2);
  const started = performance.now();
  const usesStatistics = isPruningCriterion(method)
    ? pruningCriteria[method].source === "statistics"
    : methods[method].needs.statistics;
  const statistics = usesStatistics ? await profiled(job, model, sequences) : null;
  const profileSeconds = (performance.now() - started) / 1e3;
  if (isPruningCriterion(method)) {
    const weightScores = method === "aimer" ? await aimerScores(model.checkpoint, model.description, {}) : null;
    makePruningPlan({ ...model, options, seed: 42, statistics, weightScores });
  } else {
    const usesText = methods[method].needs.text;
    const context: MethodContext = {
      ...{ ...model, options, seed: 42, statistics, runtime, stateDirectory },
      sequences: usesText ? sequences : null,
    };
    await applyPlan(context, await makePlan(context));
  }
  const seconds = (performance.now() - started) / 1e3;
  const cost = methodCost(options, model.description, job);
  const tokens = job.sequences * job.sequenceLength;
  const startedPass = performance.now();
  if (cost.passTokens > 0) {
    await collectLayers({ ...model, runtime, sequences, scratchDirectory: stateDirectory, onLayer: async () => {} });
  }
  const passSeconds = ((performance.now() - startedPass) / 1e3) * (cost.passTokens / tokens) + profileSeconds;
  const predicted = { predictedSeconds: secondsOf(cost, rates), predictedBytes: cost.workingBytes };
  return { seconds, passSeconds, ...predicted, gemmRate: (before + (await gemmRate(runtime, 2))) / 2 };
}

async function profiled(
  { runtime, stateDirectory }: MethodJob,
  model: OpenModel,
  sequences: TokenSequences,
): Promise<RoutingStatisticsData> {
  const { checkpoint, fingerprint } = model;
  const about = { checkpoint: checkpoint.directory, fingerprint, sequences, renormalises: true };
  const observer = new RoutingStatistics(about);
  await profileCheckpoint({
    ...{ ...model, runtime, sequences, observer },
    collectOutputs: true,
    scratchDirectory: stateDirectory,
  });
  return observer.result();
}

function someSequences({ sequences, sequenceLength }: MethodJob, vocabSize: number): TokenSequences {
  const count = sequences * sequenceLength;
  return {
    ids: Int32Array.from({ length: count }, (_, i) => (i * 7919) % vocabSize),
    numSequences: sequences,
    sequenceLength,
    lengths: new Int32Array(sequences).fill(sequenceLength),
    domainIds: new Uint8Array(count),
    domainNames: ["text"],
    sourceSha256: "",
  };
}
