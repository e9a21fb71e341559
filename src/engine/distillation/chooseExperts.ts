import type { ReportProgress } from "../../protocol/progress";
import type { TokenSequences } from "../data/sequences";
import { tokenBatch } from "../execution/batches";
import type { HeadSource } from "../execution/headGraphs";
import { ModelExecutor } from "../execution/modelExecutor";
import { moeLayers } from "../model/moeLayers";
import type { RuntimeOptions } from "../runtime/session";
import { firstTokens } from "./firstTokens";

export interface ChooseExpertsOptions {
  student: HeadSource;
  sequences: TokenSequences;
  /** Experts wanted of each layer. */
  count: number;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  signal?: AbortSignal | undefined;
  report?: ReportProgress | undefined;
}

/**
 * The most used experts of each layer, ascending: one pass of the student over the training sequences (their first
 * `firstTokens`) counts how often each physical expert is among a token's top-k, padding left out; ties go to the lower
 * number. So the official code of the scope ladder chooses them (AIDASLab/Post-Compression-Adjustment).
 */
export async function chooseExperts(options: ChooseExpertsOptions): Promise<Map<number, number[]>> {
  const { student, count, runtime, scratchDirectory, signal, report } = options;
  const sequences = firstTokens(options.sequences);
  const batch = tokenBatch(sequences);
  const layers = new Map(moeLayers(student.description).map(({ layer: index, moe }) => [index, moe]));
  const counts = new Map([...layers].map(([layer, { numExperts }]) => [layer, new Float64Array(numExperts)]));
  const { sequenceLength } = sequences;
  const executor = await ModelExecutor.open({
    ...student,
    sequenceLength,
    runtime,
    scratchDirectory,
    direction: "forward",
  });
  try {
    let done = 0;
    const hidden = await executor.forward(batch, {
      signal,
      observer: {
        observe: ({ layer, firstToken, numExpertsPerToken: k, selectedIds }) => {
          const physical = layers.get(layer)!.logicalToPhysical;
          const sums = counts.get(layer)!;
          selectedIds.forEach((id, slot) => {
            if (batch.valid?.[firstToken + Math.floor(slot / k)] !== 0) sums[physical === null ? id : physical[id]!]!++;
          });
        },
      },
      onChunk: (tokens) => {
        done += tokens / student.description.layers.length;
        const [total, message] = [batch.ids.length, "Counting the experts that tokens choose"];
        report?.({ stage: "calibrate", message, done: Math.round(done), total, unit: "tokens" });
      },
    });
    hidden.close();
  } finally {
    await executor.close();
  }
  return new Map([...counts].map(([layer, sums]) => [layer, mostUsed(sums, count)]));
}

function mostUsed(counts: Float64Array, count: number): number[] {
  const order = Array.from(counts.keys()).sort((a, b) => counts[b]! - counts[a]! || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}
