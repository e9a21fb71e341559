import type { Preflight } from "../../../src/protocol/run";

export const gib = 2 ** 30;

/** What a pre-flight of a model of 30 B parameters says. */
export function preflight(changes: Partial<Preflight> = {}): Preflight {
  return {
    parametersBefore: 30e9,
    parametersAfter: 19e9,
    bytesBefore: 60 * gib,
    bytesAfter: 38 * gib,
    diskNeededBytes: 40 * gib,
    diskFreeBytes: 100 * gib,
    peakMemoryBytes: 6 * gib,
    memoryBudgetBytes: 8 * gib,
    stages: [],
    seconds: 4200,
    refusals: [],
    warnings: [],
    ...changes,
  };
}
