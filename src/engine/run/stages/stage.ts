import type { MetricsLine } from "../../../protocol/metrics";
import type { ReportProgress } from "../../../protocol/progress";
import type { RunFile, StageId } from "../../../protocol/run";
import type { RuntimeOptions } from "../../runtime/session";
import type { ModelCache } from "../modelCache";
import type { RunPaths } from "../folder/runFolder";
import type { HeavyWork } from "../work";
import type { ForecastInput, ScratchInput, StageForecast, StageScratch } from "./forecast";

/** What a stage works with: the run folder, the recipe, and the machine. Its inputs and outputs are files. */
export interface StageContext {
  /** The run as it stands now. */
  readonly run: RunFile;
  paths: RunPaths;
  runtime: RuntimeOptions;
  models: ModelCache;
  work: HeavyWork;
  readonly signal: AbortSignal;
  report: ReportProgress;
  /** Resolves once the line is in metrics.jsonl, or could not be written, which does not stop the work. */
  onMetrics: (line: MetricsLine) => Promise<void>;
  /** Takes lines of updates after a step back (rewindMetrics). */
  rewindMetrics: (step: number) => Promise<void>;
  warn: (message: string) => Promise<void>;
  /** Writes into run.json which tensors the calibration trained. */
  recordTrained: (names: string[]) => Promise<void>;
  /** Goes on where a teacher is not the student's origin. */
  force: boolean;
  /** The output lies in the folder of a pipeline that this run is a step of, and may be made anew. */
  ownsOutput: boolean;
  /** Names this run's outputs, so that what a killed attempt left is told from other people's files. */
  runId: string;
}

/** One step of a run. `run` can be killed at any instant; calling it again gives the same result. */
export interface Stage {
  id: StageId;
  /** Everything that decides the stage's result, as JSON; its hash decides about reuse. */
  inputs: (context: StageContext) => Promise<unknown>;
  /** Whether a finished stage's outputs are still there. */
  hasOutputs: (context: StageContext) => Promise<boolean>;
  /** Takes back what an earlier attempt with other inputs left in the run folder. */
  discard: (context: StageContext) => Promise<void>;
  run: (context: StageContext) => Promise<void>;
  /** Time and peak memory, from shapes and measured rates alone. */
  forecast: (input: ForecastInput) => StageForecast;
  /** Disk that it needs beside its result. */
  scratch: (input: ScratchInput) => StageScratch;
  /** After the stage is recorded as done; may be called again. */
  complete?: (context: StageContext) => Promise<void>;
}

/** Writes the report once everything else is done. The run folder does not know how reports look. */
export type WriteReport = (runDirectory: string) => Promise<void>;
