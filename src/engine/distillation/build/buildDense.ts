import type { BuildOptions, DenseLayerPlan } from "../../../protocol/denseStudent";
import type { ReportProgress } from "../../../protocol/progress";
import type { Provenance } from "../../../protocol/provenance";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { writeCheckpoint } from "../../checkpoint/write";
import { LayerEngine } from "../../compression/layer/layerEngine";
import type { TokenSequences } from "../../data/sequences";
import { collectLayers } from "../../execution/collectLayers";
import type { ModelDescription, MoeDescription } from "../../model/description";
import type { RuntimeOptions } from "../../runtime/session";
import { chooseDense } from "./chooseDense";
import { denseStudent } from "./denseSibling";
import { expertCountOf } from "./expertCount";
import { expertMoments } from "./expertMoments";
import { sharedGateMean } from "./sharedGateMean";
import { siblingOf } from "./siblings";

interface Teacher {
  checkpoint: Checkpoint;
  description: ModelDescription;
  fingerprint: string;
}

export interface MeasureDenseOptions {
  teacher: Teacher;
  sequences: TokenSequences;
  build: BuildOptions;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  signal?: AbortSignal | undefined;
  report?: ReportProgress;
}

/** By decoder layer. */
export type DenseLayers = ReadonlyMap<number, DenseLayerPlan>;

/**
 * Decides what a dense student of a teacher is made of: one pass over the text measures what all experts of each layer give on
 * the same tokens; some of them, with scales fitted by least squares to the routed sum, become the layer's MLP.
 *
 * @throws RerouteError arguments/invalid for more experts than there are; model/unsupported-option
 */
export async function measureDense(options: MeasureDenseOptions): Promise<DenseLayers> {
  const { teacher, sequences, build, runtime, scratchDirectory, signal, report } = options;
  const { checkpoint, description } = teacher;
  siblingOf(description, checkpoint.config);
  const layers = new Map<number, DenseLayerPlan>();
  await collectLayers({
    ...{ checkpoint, description, sequences, runtime, scratchDirectory, signal, report },
    onLayer: async (collected) => {
      const { layer, moe } = collected;
      const count = expertCountOf(moe, layer.index, build.experts);
      const engine = new LayerEngine(runtime, checkpoint, description.hiddenSize);
      try {
        const moments = await expertMoments(engine, collected, build.maxTokens);
        const plan = chooseDense(moments, { ...build, count, equal: scalingOf(moe) / count });
        const sharedScale = await sharedGateMean(checkpoint, collected, build.maxTokens);
        layers.set(layer.index, sharedScale === null ? plan : { ...plan, sharedScale });
      } finally {
        await engine.close();
      }
    },
  });
  return layers;
}

export interface WriteDenseOptions {
  teacher: Teacher;
  layers: DenseLayers;
  directory: string;
  provenance: Pick<Provenance, "reroute" | "recipe" | "seed" | "versions">;
  /** Of a run that may be killed: see writeCheckpoint. */
  runId?: string;
  leaveMarker?: boolean;
  signal?: AbortSignal | undefined;
  report?: ReportProgress;
}

export interface WrittenDense {
  /** Of every layer's MLP. */
  intermediateSize: number;
  bytes: number;
}

/**
 * Writes the student: the chosen experts of each layer side by side, beside the shared ones.
 * @throws RerouteError model/unsupported-option; codes of writeCheckpoint
 */
export async function writeDense(options: WriteDenseOptions): Promise<WrittenDense> {
  const { teacher, layers, directory, runId, leaveMarker, signal, report } = options;
  const { checkpoint, fingerprint } = teacher;
  const student = denseStudent(teacher, layers);
  const residuals = [...layers].map(([index, { residual }]) => [`residual.${index}`, residual] as const);
  const provenance: Provenance = {
    schemaVersion: 1,
    ...options.provenance,
    kind: "compressed",
    teacher: { path: checkpoint.directory, fingerprint },
    student: null,
    plan: null,
    metrics: Object.fromEntries(residuals),
  };
  const { bytes } = await writeCheckpoint({
    directory,
    tensors: student.tensors,
    config: student.config,
    copyFilesFrom: checkpoint.directory,
    extraFiles: { "reroute.json": `${JSON.stringify(provenance, null, 2)}\n` },
    ...(runId === undefined ? {} : { runId }),
    ...(leaveMarker === undefined ? {} : { leaveMarker }),
    ...(signal === undefined ? {} : { signal }),
    onProgress: (progress) =>
      report?.({
        ...{ stage: "compress", message: "Writing the dense student", unit: "bytes" },
        ...{ done: progress.bytes, total: progress.totalBytes },
      }),
  });
  return { intermediateSize: student.intermediateSize, bytes };
}

function scalingOf({ routing }: MoeDescription): number {
  return routing.kind === "sparse-mixer" ? 1 : routing.scalingFactor;
}
