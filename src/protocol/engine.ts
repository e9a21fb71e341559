import type { CheckpointSummary, HubModel, TensorRow, TensorStatistics } from "./checkpointSummary";
import type { CellProgress, ComparisonFile, ComparisonForecast, ComparisonRecipe, ComparisonSummary } from "./compare";
import type { EvaluationFile } from "./evaluation";
import type { GenerationEvent, GenerationResult, GenerationStart } from "./generation";
import type {
  CalibrationPanelData,
  DistillationPanelData,
  DivergencePanelData,
  ExpertPanelData,
  PlanEdit,
  PlanView,
  RoutingPanelData,
  RunSummary,
  SimilarityMetric,
  SimilarityPanelData,
  TextPanelData,
  TradeOffPanelData,
} from "./panels";
import type { ExportedGguf, GgufFileType } from "./gguf";
import type { MetricsLine } from "./metrics";
import type { Progress } from "./progress";
import type { Recipe } from "./recipe";
import type { Preflight, RunFile } from "./run";
import type { GenerationModel, ScoredText, ScoringStart } from "./scoring";
import type { QueueChoice, QueueStatus, RunWorkers } from "./workers";
import type { WorkersPanelData } from "./workersPanel";

/**
 * Requests a host may send to the engine process, over vscode-jsonrpc on the child's IPC channel. A request ends in
 * exactly one result or one error `{ code, message }`; cancelling it ends it with the code "cancelled".
 */
export interface EngineRequests {
  /** Must come first. The engine refuses a host of another protocol version. */
  initialize: (p: { protocolVersion: number; host: string }) => EngineInfo;
  /** Whether onnxruntime loads here, and which providers it offers. Inspection works without. */
  "runtime/probe": (p: Record<string, never>) => RuntimeInfo;
  "checkpoint/inspect": (p: { path: string }) => CheckpointSummary;
  /** Models of this machine's Hugging Face cache that have safetensors weights, by name. */
  "checkpoint/hubModels": (p: Record<string, never>) => { cacheFolder: string; models: HubModel[] };
  "checkpoint/tensors": (p: { path: string }) => { tensors: TensorRow[] };
  "checkpoint/tensorStatistics": (p: { path: string; tensor: string }) => TensorStatistics;
  /** Tokens of a text by a checkpoint's tokenizer, at most those of the published recipe; those far behind its beginning are estimated. */
  "text/measure": (p: { checkpoint: string; path: string }) => { tokens: number };
  /** `runsFolder`: where the run would be kept, so that the right disk is looked at. */
  "recipe/preflight": (p: { recipe: Recipe; baseFolder: string; runsFolder: string }) => Preflight;
  /** Creates the run folder if needed, then works until the run is done. `force`: as --force of the command line. */
  "run/start": (p: {
    runDirectory: string;
    recipe: Recipe;
    baseFolder: string;
    force?: boolean;
    queue?: QueueChoice;
  }) => RunOutcome;
  /** Continues a run folder where it stopped. */
  "run/resume": (p: { runDirectory: string; force?: boolean; queue?: QueueChoice }) => RunOutcome;
  /** What each cell would take, and which would be refused. */
  "comparison/preflight": (p: ComparisonStart) => ComparisonForecast;
  /** Runs the grid cell by cell; asked again for the same folder it goes on where it stopped. Cells that fail do not end it. */
  "comparison/start": (p: ComparisonStart) => ComparisonOutcome;
  /** Continues a comparison's folder from its own comparison.json. */
  "comparison/resume": (p: { directory: string; force?: boolean; queue?: QueueChoice }) => ComparisonOutcome;
  /** What to do with unfinished runs when the host goes away: end at once (they can be resumed), or finish them first. */
  "engine/onDisconnect": (p: { behaviour: "exit" | "finish-runs" }) => null;
  /** Makes a run folder of a trace that another program recorded; the Routing panel shows it like a profile. */
  "trace/import": (p: {
    path: string;
    format: "auto" | "vllm" | "sglang" | "imatrix";
    runDirectory: string;
    checkpoint?: string;
    numExpertsPerToken?: number;
  }) => { runDirectory: string; format: "vllm" | "sglang" | "imatrix"; notes: string[] };
  /** Writes a checkpoint as a GGUF file for llama.cpp; the file must not exist. */
  "checkpoint/exportGguf": (p: { path: string; file: string; type: GgufFileType }) => ExportedGguf;
  /** Responses to prompts; their tokens come as events while they are made. */
  "generation/start": (p: GenerationStart) => GenerationResult;
  /** What generating with a checkpoint takes, and whether it speaks as the teacher does; headers alone are read. */
  "generation/describe": (p: { checkpoint: string; teacher?: string; memory?: string }) => GenerationModel;
  /** Responses teacher-forced through several models: loss, KL to the teacher and routing of each token. */
  "generation/score": (p: ScoringStart) => { texts: ScoredText[] };
  /** Runs and comparisons below a folder; the cells of a comparison are among the runs. */
  "run/list": (p: { runsFolder: string }) => { runs: RunSummary[]; comparisons: ComparisonSummary[] };
  /** What people call a run or comparison; a null name is what its recipe says, and what is absent stays as it is. */
  "run/label": (p: { directory: string; name?: string | null; tags?: string[] }) => null;
  /** Bytes of a run's or comparison's folder, and of the checkpoint that the run wrote elsewhere, if it is there. */
  "run/size": (p: { directory: string }) => { bytes: number; output: { path: string; bytes: number } | null };
  /** Asks the process that works in a folder, whichever it is, to stop. */
  "run/cancel": (p: { directory: string }) => null;
  /** Workers and tiles of a run whose work is or was spread; null for one that never was. */
  "run/workers": (p: { runDirectory: string }) => RunWorkers | null;
  /** Who is at a queue, and whether it can carry work. Never fails because of the queue: that is a check's result. */
  "queue/status": (p: { queue: QueueChoice }) => QueueStatus;
  "run/read": (p: { runDirectory: string }) => { run: RunFile; evaluation: EvaluationFile | null };
  "panel/routing": (p: { runDirectory: string }) => RoutingPanelData | null;
  "panel/divergence": (p: { runDirectory: string }) => DivergencePanelData | null;
  "panel/similarity": (p: {
    runDirectory: string;
    layer?: number;
    metric?: SimilarityMetric;
  }) => SimilarityPanelData | null;
  /** One expert of the run's profile: its tokens, scores, neighbours, and what the plan does with it. */
  "panel/expert": (p: { runDirectory: string; layer: number; expert: number }) => ExpertPanelData | null;
  /** The first tokens of the profiled text in one layer. */
  "panel/text": (p: { runDirectory: string; layer?: number }) => TextPanelData | null;
  "panel/calibration": (p: { runDirectory: string }) => CalibrationPanelData | null;
  /** The figures of a run's or comparison's distillation.json; null where it has none. */
  "panel/distillation": (p: { runDirectory: string }) => DistillationPanelData | null;
  "panel/tradeOff": (p: { runsFolder: string }) => TradeOffPanelData;
  /** How the work of a run or comparison is or was spread; null where it never was. */
  "panel/workers": (p: { runDirectory: string }) => WorkersPanelData | null;
  /** A compression plan as its page shows it, with sizes from the shapes of the checkpoint, or of the run's teacher. */
  "plan/read": (p: { text: string } & PlanModel) => PlanView;
  /** The plan's text after an edit, and what happened in words; refused with the reason where the plan may not become so. */
  "plan/edit": (p: { text: string; edit: PlanEdit } & PlanModel) => { text: string; said: string };
}

/** What a plan is shown against; neither: the plan alone. */
export interface PlanModel {
  checkpoint?: string;
  runDirectory?: string;
}

/** Events of the engine. `runDirectory` names the run that they belong to, or the comparison's folder. */
export interface EngineEvents {
  "run/progress": { runDirectory: string; progress: Progress };
  "run/metrics": { runDirectory: string; line: MetricsLine };
  "run/stageChanged": { runDirectory: string; run: RunFile };
  /** A comparison begins a cell; the cell's own progress comes as "run/progress" of the comparison. */
  "comparison/cell": { runDirectory: string; cell: CellProgress };
  /** A cell has ended, well or not: comparison.json is written anew. */
  "comparison/changed": { runDirectory: string };
  /** `id` is that of the request. */
  "export/progress": { file: string; done: number; total: number };
  "generation/event": { id: string; event: GenerationEvent };
  /** Tokens of "generation/score" that went through all layers of a model, of all there are. */
  "generation/scored": { id: string; done: number; total: number };
  log: { level: "info" | "warning" | "error"; message: string };
}

export interface EngineInfo {
  protocolVersion: number;
  version: string;
  node: string;
  pid: number;
}

export interface RuntimeInfo {
  available: boolean;
  version: string | null;
  providers: string[];
  /** Why onnxruntime cannot be used, if it cannot. */
  reason: string | null;
}

export interface RunOutcome {
  runDirectory: string;
  output: string;
  report: string | null;
  evaluation: EvaluationFile | null;
}

export interface ComparisonStart {
  /** Folder of the comparison. */
  directory: string;
  recipe: ComparisonRecipe;
  /** Folder that the recipe's relative paths start from. */
  baseFolder: string;
  name: string;
  /** Cells go on where the pre-flight refuses what may be forced. */
  force?: boolean;
  /** Workers do the cells' work. */
  queue?: QueueChoice;
}

export interface ComparisonOutcome {
  directory: string;
  comparison: ComparisonFile;
}

/** Raised at every incompatible change of this file. */
export const protocolVersion = 1;

export type EngineMethod = keyof EngineRequests;
export type EngineParams<M extends EngineMethod> = Parameters<EngineRequests[M]>[0];
export type EngineResult<M extends EngineMethod> = ReturnType<EngineRequests[M]>;

/** Requests about the process itself; the engine's handlers answer them. */
export type ProcessMethod = "initialize" | "engine/onDisconnect";

/** Requests that the engine's functions answer. */
export type ServiceMethod = Exclude<EngineMethod, ProcessMethod>;

export type Workload = "job" | "inspection";

/**
 * "job": works for long or uses all cores, so one at a time, in the order asked for. "inspection": answered at once, also while
 * a job runs: running a graph blocks the thread that it is called from, so hosts ask a process of its own. A missing row does
 * not compile.
 */
export const workload: { [M in ServiceMethod]: Workload } = {
  "runtime/probe": "inspection",
  "checkpoint/inspect": "inspection",
  "checkpoint/hubModels": "inspection",
  "checkpoint/tensors": "inspection",
  "checkpoint/tensorStatistics": "inspection",
  "text/measure": "inspection",
  "recipe/preflight": "job",
  "run/start": "job",
  "run/resume": "job",
  "comparison/preflight": "job",
  "comparison/start": "job",
  "comparison/resume": "job",
  "trace/import": "job",
  "checkpoint/exportGguf": "job",
  "generation/start": "job",
  "generation/describe": "inspection",
  "generation/score": "job",
  "run/list": "inspection",
  "run/label": "inspection",
  "run/size": "inspection",
  "run/cancel": "inspection",
  "run/workers": "inspection",
  "queue/status": "inspection",
  "run/read": "inspection",
  "panel/routing": "inspection",
  "panel/divergence": "inspection",
  "panel/similarity": "inspection",
  "panel/expert": "inspection",
  "panel/text": "inspection",
  "panel/calibration": "inspection",
  "panel/distillation": "inspection",
  "panel/tradeOff": "inspection",
  "panel/workers": "inspection",
  "plan/read": "inspection",
  "plan/edit": "inspection",
};
