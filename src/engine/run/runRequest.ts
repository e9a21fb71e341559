import type { MetricsLine } from "../../protocol/metrics";
import type { ReportProgress } from "../../protocol/progress";
import type { Recipe } from "../../protocol/recipe";
import type { RunFile } from "../../protocol/run";
import type { StageClock } from "./runShare";
import type { StageTable } from "./stages";
import type { HeavyWork } from "./work";

export interface RunHooks {
  signal: AbortSignal;
  report?: ReportProgress;
  onMetrics?: (line: MetricsLine) => void;
  /** After every change of run.json. */
  onChange?: (run: RunFile) => void;
  onWarning?: (message: string) => void;
  /** Goes on where the teacher is not the student's origin. */
  force?: boolean;
  /** Of a step of a pipeline: see ExecuteOptions. */
  ownsOutput?: boolean;
  /** Counts the run as a part of a longer one. */
  share?: StageClock;
}

export interface RunMachinery {
  stages: StageTable;
  work: HeavyWork;
  /** Of work that is spread: what all who do it have in common. */
  numerics?: RunFile["numerics"];
  /** No worker is on this machine: how fast it is says nothing, and measuring would take the memory of layers. */
  worksElsewhere?: boolean;
}

export interface RunRequest {
  runDirectory: string;
  recipe: Recipe;
  baseFolder: string;
  /** Of a run that is a part of another: as that one decided it. */
  runtime?: RunFile["runtime"];
}
