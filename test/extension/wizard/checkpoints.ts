import type { CheckpointSummary } from "../../../src/protocol/checkpointSummary";

/** A summary of a checkpoint with `numExperts` experts in each of two MoE layers behind a dense one. */
export function checkpoint(changes: Partial<CheckpointSummary> = {}, numExperts = 32): CheckpointSummary {
  const size = { parameters: 10, bytes: 20 };
  const moe = { numExperts, routerTensor: "gate.weight", router: size, experts: size, sharedExperts: null };
  return {
    path: "/models/qwen",
    modelType: "qwen3_moe",
    supported: true,
    unsupportedReason: null,
    parametersTotal: 30e9,
    parametersActive: 3e9,
    bytes: 60e9,
    shards: 16,
    tensors: 1000,
    dtypes: {},
    vocabSize: 2048,
    hiddenSize: 128,
    numLayers: 3,
    numExpertsPerToken: 4,
    layers: [
      { index: 0, ...size, moe: null },
      { index: 1, ...size, moe },
      { index: 2, ...size, moe },
    ],
    otherParts: [],
    unread: [],
    notes: [],
    provenance: null,
    ...changes,
  };
}

export const student = checkpoint({
  provenance: { kind: "compressed", teacherPath: "/models/teacher", method: "reap" },
});
