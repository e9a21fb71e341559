/** What `inspect` and the Checkpoints tree show; read from headers and config.json alone. */
export interface CheckpointSummary {
  path: string;
  modelType: string | null;
  supported: boolean;
  /** Set for a dense model that the engine runs: it is evaluated, but has nothing to compress or calibrate. */
  isDense?: true;
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
  /** Groups of experts that routers of a supported model choose among; absent: one. */
  routingGroups?: number;
  /** Layers of the decoder. */
  layers: LayerSummary[];
  /** Other stacks of layers, such as a vision encoder or layers that predict further tokens, by name. */
  otherParts: { name: string; layers: number; parameters: number; bytes: number }[];
  /** Tensors that the forward pass does not read, those of the decoder first; empty where the family is not supported. */
  unread: UnreadTensors[];
  /** What a user should know about how the files were read, such as stale entries of an index. */
  notes: string[];
  /** The teacher that reroute.json names, if any. */
  provenance: { kind: "compressed" | "calibrated"; teacherPath: string; method: string | null } | null;
}

/** Unread tensors whose names differ in numbers alone. */
export interface UnreadTensors {
  /** Their name with "*" for each number. */
  pattern: string;
  tensors: number;
  parameters: number;
  /** True where they look like weights of the decoder, so that its results are wrong without them. */
  ofDecoder: boolean;
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

/** A model in a Hugging Face cache. */
export interface HubModel {
  /** As on the Hub: "org/name". */
  id: string;
  /** The snapshot's folder, which is the checkpoint. */
  directory: string;
  /** Commit of the snapshot. */
  revision: string;
  /** When the snapshot's folder was last written to. */
  modifiedMs: number;
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
  /** Where the tensor holds codes of a quantised weight: what they stand for. */
  packed?: PackedStatistics | undefined;
}

export interface PackedStatistics {
  /** How the weight is stored, in words. */
  form: string;
  /** Matrices of the tensor that were decoded, of how many: a large fused tensor is read from its beginning. */
  matrices: { read: number; all: number };
  /** Of the numbers that a model computes with. */
  values: TensorStatistics;
  /** Of the integer codes less their zero point; null where a form has no such. */
  codes: TensorStatistics | null;
  /** Of scales, zero points and factors, by tensor. */
  scales: TensorStatistics[];
}
