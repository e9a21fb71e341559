import type { TokenSequences } from "../../src/engine/data/sequences";
import { runForwardProbe, type ProbeModel } from "../../src/engine/execution/probe";
import { temporaryFolder } from "./temporaryFolder";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

/** Logits [rows, vocabulary] of every position, as rows. */
export async function logitsOf(model: ProbeModel, sequences: TokenSequences): Promise<Float32Array[]> {
  const { ids, numSequences, sequenceLength } = sequences;
  const results = await runForwardProbe({
    model,
    teacher: null,
    inputIds: ids,
    batch: numSequences,
    positions: sequenceLength,
    runtime,
    scratchDirectory: temporaryFolder(),
  });
  const logits = results.get("logits")!.data as Float32Array;
  const width = model.description.vocabSize;
  return Array.from({ length: ids.length }, (_, row) => logits.subarray(row * width, (row + 1) * width));
}

/** Rows whose next token exists: not the last of a sequence and not padding. */
export function targetRows({ numSequences, sequenceLength, lengths }: TokenSequences): number[] {
  return Array.from({ length: numSequences }, (_, s) =>
    Array.from({ length: Math.max(0, lengths[s]! - 1) }, (_, i) => s * sequenceLength + i),
  ).flat();
}

export function logSoftmax(logits: ArrayLike<number>, temperature = 1): number[] {
  const scaled = Array.from(logits, (logit) => logit / temperature);
  const largest = Math.max(...scaled);
  const partition = largest + Math.log(scaled.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
  return scaled.map((logit) => logit - partition);
}

/** KL(softmax(teacher / temperature) || softmax(student / temperature)) in double precision. */
export function kl(teacher: ArrayLike<number>, student: ArrayLike<number>, temperature = 1): number {
  const [p, q] = [logSoftmax(teacher, temperature), logSoftmax(student, temperature)];
  return p.reduce((sum, logP, i) => sum + Math.exp(logP) * (logP - q[i]!), 0);
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
