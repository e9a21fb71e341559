import type { Checkpoint } from "../checkpoint/checkpoint";
import { writeCheckpoint } from "../checkpoint/write";
import { RerouteError } from "../../protocol/errors";
import type { CompressionPlan } from "../../protocol/plan";
import type { ReportProgress } from "../../protocol/progress";
import type { Provenance } from "../../protocol/provenance";
import type { ModelDescription } from "../model/description";
import type { ModelFamily } from "../model/family";
import { validatePlan } from "./plan/validatePlan";
import { compressedConfig } from "./compressedConfig";
import { compressedTensors, type CompressedLayer } from "./layer/compressedTensors";
import { replacesByConstants } from "./pruning/constants";
import { pruneTensors } from "./pruning/pruneTensors";

export interface WriteCompressedOptions {
  checkpoint: Checkpoint;
  family: ModelFamily;
  description: ModelDescription;
  fingerprint: string;
  plan: CompressionPlan;
  directory: string;
  /** Merging and editing: the layers as applying the plan made them. */
  layers?: ReadonlyMap<number, CompressedLayer>;
  /** Where the checkpoint was compressed before: the teacher that all of it comes from, and what it stands for. */
  origin?: Pick<Provenance, "teacher" | "sourceExperts">;
  /** What reroute.json says beside teacher and plan. */
  provenance: Pick<Provenance, "reroute" | "recipe" | "seed" | "versions" | "metrics" | "trainedOn">;
  /** See writeCheckpoint. */
  runId?: string;
  leaveMarker?: boolean;
  signal?: AbortSignal | undefined;
  report?: ReportProgress | undefined;
  maxShardBytes?: number;
}

/**
 * Applies a plan: writes the compressed checkpoint, with reroute.json saying where it came from. The same plan on the
 * same checkpoint gives the same bytes.
 * @throws RerouteError `plan/invalid` before anything is written; codes of writeCheckpoint
 */
export async function writeCompressedCheckpoint(options: WriteCompressedOptions): Promise<{ bytes: number }> {
  const { checkpoint, family, description, fingerprint, plan, directory, report, origin } = options;
  validatePlan(plan, description, fingerprint);
  if ((plan.paradigm !== "pruning" || replacesByConstants(plan)) && options.layers === undefined) {
    throw new RerouteError("internal", `a ${plan.paradigm} plan was to be written before it was applied`);
  }
  const source = { path: checkpoint.directory, fingerprint };
  const provenance: Provenance = {
    schemaVersion: 1,
    kind: "compressed",
    teacher: origin?.teacher ?? source,
    student: origin ? source : null,
    plan,
    ...(origin?.sourceExperts ? { sourceExperts: origin.sourceExperts } : {}),
    ...options.provenance,
  };
  return writeCheckpoint({
    directory,
    tensors:
      plan.paradigm === "pruning" && !replacesByConstants(plan)
        ? pruneTensors(checkpoint, family, description, plan)
        : compressedTensors(checkpoint, family, description, options.layers!),
    config: compressedConfig(checkpoint, family, description, plan),
    copyFilesFrom: checkpoint.directory,
    extraFiles: { "reroute.json": `${JSON.stringify(provenance, null, 2)}\n` },
    ...(options.runId === undefined ? {} : { runId: options.runId }),
    ...(options.leaveMarker === undefined ? {} : { leaveMarker: options.leaveMarker }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    ...(options.maxShardBytes === undefined ? {} : { maxShardBytes: options.maxShardBytes }),
    onProgress: ({ bytes, totalBytes }) =>
      report?.({
        stage: "compress",
        message: "Writing the compressed checkpoint",
        done: bytes,
        total: totalBytes,
        unit: "bytes",
      }),
  });
}
