import { RerouteError } from "../../../protocol/errors";
import type { ReportProgress } from "../../../protocol/progress";
import { batchTokens, type MeasuredSpeed } from "../../../protocol/evaluation";
import { measureComputeRates } from "../../compression/cost/computeRates";
import type { HeadSource } from "../../execution/headGraphs";
import { Decoder } from "../../generation/decoder";
import { planDecoding } from "../../generation/decodingPlan";
import { flopsPerToken } from "../../model/parameters";
import type { RuntimeOptions } from "../../runtime/session";
import { bytesReadPerToken } from "../checkpointCost";
import { quantile } from "../passMeter";

/** Tokens before the one that is decoded. */
const contextTokens = 32;
/** Timed runs of each size, behind those that compile and warm up. */
const [timedRuns, warmRuns] = [20, 2];

/** Tokens that measuring takes through a model: what its pre-flight counts. */
export const measuredTokens =
  (timedRuns + warmRuns) * batchTokens.reduce((sum, tokens) => sum + tokens, 0) + contextTokens;

export interface SpeedOptions {
  model: HeadSource;
  /** Token ids of a text, from its beginning. */
  ids: Int32Array;
  runtime: RuntimeOptions;
  signal?: AbortSignal;
  report?: ReportProgress;
}

/**
 * Latency and throughput of one model on this machine: one token decoded greedily behind a context, and batches of tokens
 * until the logits behind their last one, each as the median and the 90th percentile of 20 runs, in wall time. What it
 * reached of the machine is told by a float32 matrix product and a copy of memory, timed by the same process.
 * Lengths that the model's positions, the budget or the text do not have are left out.
 *
 * @throws RerouteError what planDecoding raises for the single token; cancelled
 */
export async function measureSpeed(options: SpeedOptions): Promise<MeasuredSpeed> {
  const { model, ids, runtime, signal, report } = options;
  const { description } = model;
  const sizes = batchTokens.filter((tokens) => tokens > 1 && tokens <= ids.length && fits(options, tokens));
  const context = Math.min(contextTokens, ids.length);
  const lengthLimit = Math.max(context + timedRuns + warmRuns, ...sizes);
  const [product, copied] = [(await measureComputeRates(runtime)).float32, copyRate()];
  const plan = planDecoding(description, runtime.memoryBudgetBytes, lengthLimit, 1);
  const decoder = await Decoder.open({ ...model, runtime, plan });
  let done = 0;
  const total = (sizes.length + 1) * (timedRuns + warmRuns);
  const times = async (work: () => Promise<unknown>) => {
    const seconds: number[] = [];
    for (let run = -warmRuns; run < timedRuns; run++) {
      const started = performance.now();
      await work();
      if (run >= 0) seconds.push((performance.now() - started) / 1e3);
      report?.({ stage: "evaluate", message: "Measuring speed", done: ++done, total, unit: "steps" });
    }
    seconds.sort((a, b) => a - b);
    return { median: quantile(seconds, 0.5), most: quantile(seconds, 0.9) };
  };
  try {
    decoder.begin(1);
    let next = largestAt(await decoder.advance([ids.slice(0, context)], signal));
    const one = await times(async () => {
      next = largestAt(await decoder.advance([Int32Array.of(next)], signal));
    });
    const batches: MeasuredSpeed["batches"] = [
      { ...batchOf(1, one), gemmShare: flopsOf(model, 1) / one.median / product },
    ];
    for (const tokens of sizes) {
      const seconds = await times(() => {
        decoder.begin(1);
        return decoder.advance([ids.slice(0, tokens)], signal);
      });
      batches.push({ ...batchOf(tokens, seconds), gemmShare: flopsOf(model, tokens) / seconds.median / product });
    }
    return {
      ...{ threads: runtime.threads, provider: runtime.provider, runs: timedRuns, context },
      batches,
      machine: { gemmFlops: product, copyBytesPerSecond: copied },
      bandwidthShare: bytesReadPerToken(model) / one.median / copied,
    };
  } finally {
    await decoder.close();
  }
}

function batchOf(tokens: number, { median, most }: { median: number; most: number }) {
  return { tokens, medianMs: 1e3 * median, p90Ms: 1e3 * most, tokensPerSecond: tokens / median };
}

/** Operations of a batch; the vocabulary head works behind its last token alone. */
function flopsOf({ description }: HeadSource, tokens: number): number {
  const { hiddenSize, vocabSize } = description;
  const head = 2 * hiddenSize * vocabSize;
  return tokens * (flopsPerToken(description, tokens) - head) + head;
}

/** Whether the model has so many positions, and the budget room for them. */
function fits({ model, runtime }: SpeedOptions, length: number): boolean {
  try {
    planDecoding(model.description, runtime.memoryBudgetBytes, length, 1);
    return true;
  } catch (error) {
    if (error instanceof RerouteError) return false;
    throw error;
  }
}

/** Bytes a second that one thread copies, read and written bytes both counted (as STREAM's copy). */
function copyRate(): number {
  const from = new Float64Array(8 << 20).fill(1);
  const to = new Float64Array(from.length);
  let best = Infinity;
  for (let run = 0; run < 5; run++) {
    const started = performance.now();
    to.set(from);
    best = Math.min(best, (performance.now() - started) / 1e3);
  }
  return (2 * from.byteLength) / best;
}

function largestAt(logits: Float32Array): number {
  return logits.reduce((at, value, i) => (value > logits[at]! ? i : at), 0);
}
