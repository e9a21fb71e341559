import type { Checkpoint } from "../checkpoint/checkpoint";
import type { LayersElsewhere, MethodContext } from "../compression/methodContext";
import type { ComputeRates } from "../compression/cost/computeRates";
import type { TokenSequences } from "../data/sequences";
import type { Elsewhere } from "../distillation/calibration";
import type { TaskToEvaluate } from "../evaluation/multipleChoice";
import type { ModelRun } from "../evaluation/modelRuns";
import type { TeacherRuns } from "../evaluation/teacherRuns";
import type { EvaluatedRows } from "../evaluation/tokenValues";
import type { Measurement } from "../execution/measure";
import type { RoutingObserver } from "../execution/observer";
import type { PassSums } from "../execution/passState";
import type { ModelDescription } from "../model/description";
import type { ModelFamily } from "../model/family";
import type { RoutingStatistics } from "../routing/collect";
import type { TokenSampler } from "../routing/tokenSampler";
import type { RuntimeOptions } from "../runtime/session";
import type { BuildOptions, DenseStudentFile } from "../../protocol/denseStudent";
import type { ExpertProbe } from "../../protocol/distillation";
import type { ModelEvaluation } from "../../protocol/evaluation";
import type { CompressionPlan } from "../../protocol/plan";
import type { PreviewAgreement } from "../../protocol/panels";
import type { MetricsLine } from "../../protocol/metrics";
import type { ReportProgress } from "../../protocol/progress";
import type { Provenance } from "../../protocol/provenance";
import type { ActivationType, CalibrateOptions } from "../../protocol/calibrateOptions";
import type { CompressionMethod } from "../../protocol/methods";

/** What every piece of heavy work gets. */
export interface WorkContext {
  runtime: RuntimeOptions;
  signal: AbortSignal;
  report: ReportProgress;
}

/** An opened checkpoint with what config.json says about it. */
export interface OpenModel {
  checkpoint: Checkpoint;
  family: ModelFamily;
  description: ModelDescription;
  fingerprint: string;
}

export interface CalibrationResult {
  /** Update whose routers were kept; 0: the student's own. */
  bestStep: number;
  totalUpdates: number;
  /** Held-out KL before training and of the kept step, nats a token; null without held-out sequences. */
  heldOutBefore: number | null;
  heldOutAfter: number | null;
  /** Names of the tensors that were trained (distillation/trainedNames.ts). */
  trained: string[];
}

/**
 * The parts of a run that need onnxruntime. Stages know them by this interface only, so that a run's order, resume and
 * failures are tested without a model, and so that shards may run elsewhere one day.
 */
export interface HeavyWork {
  /** One streaming pass over the sequences; calls the observer layer by layer. */
  profile: (
    p: WorkContext & {
      model: OpenModel;
      sequences: TokenSequences;
      observer: RoutingObserver;
      /** What the observer adds to, where parts of the text may be looked at elsewhere and added. */
      parts?: { statistics: RoutingStatistics; sampler: TokenSampler };
      /** Where an interrupted pass keeps hidden states to continue with. */
      stateDirectory: string;
      /** What the observer added up, kept beside them. */
      resume: PassSums;
    },
  ) => Promise<void>;
  /** How far a profile with approximate products says what an exact one does, on a sample of its sequences. */
  previewAgreement: (
    p: WorkContext & { model: OpenModel; sequences: TokenSequences; stateDirectory: string },
  ) => Promise<PreviewAgreement>;
  /** [E, E] cosine of the experts' weights by layer; layers whose weights are not plain numbers are left out. */
  weightCosines: (p: WorkContext & { model: OpenModel }) => Promise<Map<number, Float64Array>>;
  /** What a dense student of the teacher is made of, by decoder layer. */
  measureDense: (
    p: WorkContext & { teacher: OpenModel; sequences: TokenSequences; build: BuildOptions; stateDirectory: string },
  ) => Promise<DenseStudentFile["layers"]>;
  /** Trains and writes the calibrated checkpoint; continues from the state directory where there is a state of the same inputs. */
  calibrate: (
    p: WorkContext & {
      student: OpenModel;
      teacher: OpenModel;
      training: TokenSequences;
      heldOut: TokenSequences | null;
      options: CalibrateOptions;
      /** Student expert -> teacher expert ids by layer, as the student's plan says. */
      expertMapping?: Record<string, number[][]> | null;
      seed: number;
      stateDirectory: string;
      elsewhere?: Elsewhere;
      /** The state of an update is saved after its lines are written. */
      onMetrics: (line: MetricsLine) => void | Promise<void>;
      /** Called before the first update with the updates that the saved state has done; -1: there is no such state. */
      onResume?: (step: number) => Promise<void>;
      output: {
        directory: string;
        runId: string;
        provenance: Omit<Provenance, "kind" | "student" | "teacher" | "metrics">;
      };
    },
  ) => Promise<CalibrationResult>;
  evaluate: (
    p: WorkContext & {
      model: OpenModel;
      teacher: OpenModel | null;
      sequences: TokenSequences;
      /** Student expert -> teacher expert ids by layer; null without a teacher. */
      expertMapping: Record<string, number[][]> | null;
      /** Multiple-choice items, measured too. */
      task?: TaskToEvaluate;
      /** Latency and throughput are measured, too. */
      measureSpeed?: boolean;
      /** What the model's experts read is rounded so; never the teacher's. */
      activations?: ActivationType;
      /** For scratch files of this call. */
      stateDirectory: string;
      /** Also keeps there what an interrupted evaluation goes on with; the caller takes it away (removeEvaluationState). */
      keepsState?: boolean;
      /** With keepsState: where the teacher's pass is kept instead, for evaluations from other folders, one at a time. */
      teacherDirectory?: string;
      /** Keeps the teacher's run between calls against the same teacher. */
      teacherRuns?: TeacherRuns;
      /** Sees the values of single tokens before they are averaged. */
      onRows?: (rows: EvaluatedRows) => void;
      /** Makes the passes of the models elsewhere; absent: here. */
      passes?: () => Promise<ModelRun>;
    },
  ) => Promise<ModelEvaluation>;
  /** Stages layers of a compression elsewhere; absent: here. */
  stageLayers?: (p: { context: MethodContext; plan: CompressionPlan; statisticsFile: string }) => LayersElsewhere;
  /** Teacher and student by the teacher's active experts, over a text. */
  probeExperts: (
    p: WorkContext & {
      teacher: OpenModel;
      student: OpenModel | null;
      sequences: TokenSequences;
      active: readonly number[];
      stateDirectory: string;
    },
  ) => Promise<ExpertProbe>;
  /** Measures this machine on the model's own shapes, for a few seconds. */
  probe: (
    p: WorkContext & {
      model: OpenModel;
      sequenceLength: number;
      scratchDirectory?: string;
      /** What compresses the model; some methods need rates that others do not. */
      method?: CompressionMethod;
    },
  ) => Promise<MachineProbe>;
}

/**
 * Speeds of a short measured run on one layer and the head, scaled to the whole model, and of what compression methods
 * consist of.
 */
export type MachineProbe = Measurement & { compute?: ComputeRates };
