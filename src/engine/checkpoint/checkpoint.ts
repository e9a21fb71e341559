import type { DType } from "../tensor/dtype";

/** A Hugging Face checkpoint folder, opened by reading headers only. */
export interface Checkpoint {
  /** Absolute path of the folder. */
  directory: string;
  /** config.json, parsed; an object without a prototype chain worth trusting. */
  config: { [key: string]: unknown };
  shards: Shard[];
  /** In file order. */
  tensors: ReadonlyMap<string, TensorEntry>;
  /** What a user should know about how it was read, such as stale entries of its index. */
  notes?: readonly string[];
}

export interface Shard {
  /** File name as the index names it. */
  name: string;
  /** Where the bytes really are: symbolic links of download caches are resolved. */
  realPath: string;
  sizeBytes: number;
  modifiedMs: number;
  /** Free-form strings of the header's `__metadata__`. */
  metadata: Record<string, string>;
}

export interface TensorEntry {
  name: string;
  dtype: DType;
  /** Tensors of one shape share one array. */
  shape: readonly number[];
  shard: Shard;
  /** First byte in the shard file, counted from the file's start. */
  byteOffset: number;
  byteLength: number;
}
