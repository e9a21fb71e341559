import type { ReportProgress } from "../../../protocol/progress";
import type { Provenance } from "../../../protocol/provenance";
import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { writeCheckpoint } from "../../checkpoint/write";
import { LayerEngine } from "../../compression/layer/layerEngine";
import type { TokenSequences } from "../../data/sequences";
import { collectLayers } from "../../execution/collectLayers";
import type { ModelDescription, MoeDescription } from "../../model/description";
import type { RuntimeOptions } from "../../runtime/session";
import { chooseDense, type DenseChoice, type DenseLayerPlan, type DenseScales } from "./chooseDense";
import { denseStudent } from "./denseSibling";
import { expertMoments } from "./expertMoments";
import { sharedGateMean } from "./sharedGateMean";
import { siblingOf } from "./siblings";

export interface BuildDenseOptions {
  teacher: { checkpoint: Checkpoint; description: ModelDescription; fingerprint: string };
  sequences: TokenSequences;
  /** Experts a layer; null: as many as a token goes to. */
  experts: number | null;
  choose: DenseChoice;
  scales: DenseScales;
  /** Tokens that experts are measured on, at most. */
  maxTokens: number;
  directory: string;
  provenance: Pick<Provenance, "reroute" | "recipe" | "seed" | "versions">;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  signal?: AbortSignal | undefined;
  report?: ReportProgress;
}

export interface BuiltDense {
  /** By decoder layer. */
  layers: Map<number, DenseLayerPlan>;
  intermediateSize: number;
  bytes: number;
}

/**
 * Builds a dense student from a teacher: one pass over the text measures what all experts of each layer give on the same tokens;
 * some of them, with scales fitted by least squares to the routed sum, become the layer's MLP, beside the shared experts.
 *
 * @throws RerouteError arguments/invalid for more experts than there are; model/unsupported-option; codes of writeCheckpoint
 */
export async function buildDense(options: BuildDenseOptions): Promise<BuiltDense> {
  const { teacher, sequences, directory, runtime, scratchDirectory, signal, report } = options;
  const { checkpoint, description, fingerprint } = teacher;
  siblingOf(description, checkpoint.config);
  const layers = new Map<number, DenseLayerPlan>();
  await collectLayers({
    ...{ checkpoint, description, sequences, runtime, scratchDirectory, signal, report },
    onLayer: async (collected) => {
      const { layer, moe } = collected;
      const count = countOf(moe, layer.index, options.experts);
      const engine = new LayerEngine(runtime, checkpoint, description.hiddenSize);
      try {
        const moments = await expertMoments(engine, collected, options.maxTokens);
        const equal = scalingOf(moe) / count;
        const plan = chooseDense(moments, { ...options, count, equal });
        const sharedScale = await sharedGateMean(checkpoint, collected, options.maxTokens);
        layers.set(layer.index, sharedScale === null ? plan : { ...plan, sharedScale });
      } finally {
        await engine.close();
      }
    },
  });
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
    ...(signal === undefined ? {} : { signal }),
    onProgress: (progress) =>
      report?.({
        ...{ stage: "compress", message: "Writing the dense student", unit: "bytes" },
        ...{ done: progress.bytes, total: progress.totalBytes },
      }),
  });
  return { layers, intermediateSize: student.intermediateSize, bytes };
}

function countOf(
  { numExpertsPerToken, numExperts, logicalToPhysical }: MoeDescription,
  layer: number,
  asked: number | null,
) {
  if (logicalToPhysical !== null) {
    throw new RerouteError(
      "model/unsupported-option",
      `Layer ${layer} of this checkpoint was merged with a map of its router's rows; build the student from the original teacher`,
    );
  }
  const count = asked ?? numExpertsPerToken;
  if (count <= numExperts) return count;
  throw new RerouteError(
    "arguments/invalid",
    `${count} experts were asked for, but layer ${layer} has ${numExperts}; choose at most ${numExperts}`,
  );
}

function scalingOf({ routing }: MoeDescription): number {
  return routing.kind === "sparse-mixer" ? 1 : routing.scalingFactor;
}
