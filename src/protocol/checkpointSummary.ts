/** What `inspect` and the Checkpoints tree show; read from headers and config.json alone. */
export interface CheckpointSummary {
  path: string;
  modelType: string | null;
  supported: boolean;
  /** Why calibration is not offered: unsupported family or option, dense model. */
  unsupportedReason: string | null;
  parametersTotal: number;
  parametersActive: number | null;
  bytes: number;
  shards: number;
  tensors: number;
  dtypes: Record<string, { tensors: number; bytes: number }>;
  vocabSize: number | null;
  hiddenSize: number | null;
  numLayers: number | null;
  numExpertsPerToken: number | null;
  layers: LayerSummary[];
  /** The teacher that reroute.json names, if any. */
  provenance: { kind: "compressed" | "calibrated"; teacherPath: string; method: string | null } | null;
}

export interface LayerSummary {
  index: number;
  parameters: number;
  bytes: number;
  moe: {
    numExperts: number;
    routerTensor: string;
    router: { parameters: number; bytes: number };
    experts: { parameters: number; bytes: number };
    sharedExperts: { parameters: number; bytes: number } | null;
  } | null;
}

/** One row of the tensor table. Names come from untrusted files: show them as text only. */
export interface TensorRow {
  name: string;
  dtype: string;
  shape: number[];
  bytes: number;
  shard: string;
}

export interface TensorStatistics {
  name: string;
  count: number;
  finite: number;
  min: number;
  max: number;
  mean: number;
  standardDeviation: number;
  zeros: number;
  histogram: { edges: number[]; counts: number[] };
}
