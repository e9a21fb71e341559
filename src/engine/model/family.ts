import type { Checkpoint } from "../checkpoint/checkpoint";
import type { ModelDescription } from "./description";

/** What people who look for their model want to know of a family. */
export interface FamilyAbout {
  /** `architectures` of config.json: resolves a checkpoint whose model_type has no row (Kimi-K2 is a DeepSeek-V3). */
  architectures: readonly string[];
  /** Checkpoints of this family, as they are called. */
  examples: string;
  attention: string;
  /** What works, where that is not everything. */
  limits?: string;
}

/**
 * One model family: everything that is particular to it. Adding a family is one file and one row in families/index.ts.
 */
export interface ModelFamily {
  /** config.json `model_type`. */
  modelType: string;
  about: FamilyAbout;
  /** No checkpoint of this family has experts: it is inspected, evaluated and trained, but has nothing to compress. */
  isDense?: boolean;
  /**
   * Reads config.json and checks it against the tensors' names and shapes.
   * @throws RerouteError `model/unsupported-option` naming the option, `checkpoint/missing-tensor`,
   *   `checkpoint/shape-mismatch`.
   */
  describe: (checkpoint: Checkpoint) => ModelDescription;
  /**
   * The config of the same model with another number of experts in every layer, written in every spelling that loaders
   * of this family read. Other keys stay as they are.
   */
  withNumExperts: (config: JsonObject, numExperts: number) => JsonObject;
  /**
   * The config of the same model with routed experts of another width, written likewise.
   * @throws RerouteError model/unsupported-option where other parts follow the same key and cannot be kept as they are
   */
  withExpertWidth: (config: JsonObject, width: number) => JsonObject;
  /**
   * Tensors, beside router weights and expert tensors, with one entry per expert on `axis` (biases, correction biases). A
   * family with several layouts lists the names of all; a checkpoint has those of one.
   */
  perExpertTensors: (layer: number) => { name: string; axis: number }[];
}

export type JsonObject = { [key: string]: unknown };
