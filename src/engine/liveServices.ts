import path from "node:path";
import type { TensorRow, TensorStatistics } from "../protocol/checkpointSummary";
import type { ComparisonOutcome, ComparisonStart, RunOutcome } from "../protocol/engine";
import { errorCodeOf, RerouteError } from "../protocol/errors";
import type { ComparisonRecipe } from "../protocol/compare";
import type { Recipe } from "../protocol/recipe";
import type { EmitEvent } from "../protocol/rpc";
import type { QueueChoice } from "../protocol/workers";
import { runFiles, type RunFile } from "../protocol/run";
import type { TensorEntry } from "./checkpoint/checkpoint";
import { isGgufPath } from "./gguf/header";
import { openGgufModel } from "./gguf/open";
import { openCheckpoint } from "./checkpoint/open";
import { quote } from "./checkpoint/quote";
import { openShard } from "./checkpoint/shardFile";
import { statisticsOfTensor } from "./checkpoint/tensorStatistics";
import type { Numerics } from "./execution/numerics";
import type { RunHooks, RunMachinery } from "./run/startRun";
import type { EngineServices, RequestContext } from "./services";

/**
 * The real services. What needs onnxruntime is imported by the first request that needs it: the process starts at
 * once, and inspection works where onnxruntime cannot load.
 */
export function liveServices(): EngineServices {
  return {
    "runtime/probe": async () => {
      const { probeRuntime } = await import("./runtime/session");
      const found = await probeRuntime();
      return { available: found.reason === null, ...found };
    },

    "checkpoint/inspect": async ({ path: folder }) => {
      const { inspectPath } = await import("./model/inspect");
      return inspectPath(folder);
    },
    "checkpoint/hubModels": async () => {
      const { hubCacheFolder, listHubModels } = await import("./checkpoint/hubCache");
      const cacheFolder = hubCacheFolder();
      return { cacheFolder, models: await listHubModels(cacheFolder) };
    },
    "checkpoint/tensors": async ({ path: file }) => ({
      tensors: isGgufPath(file)
        ? await ggufRows(file)
        : (await tensorsOf(file)).map(({ name, dtype, shape, byteLength, shard }) => ({
            name,
            dtype,
            shape: [...shape],
            bytes: byteLength,
            shard: shard.name,
          })),
    }),
    "checkpoint/tensorStatistics": async ({ path: file, tensor }, { signal }) => {
      if (isGgufPath(file)) throw new RerouteError("checkpoint/unsupported-dtype", ggufValuesUnread);
      const entry = (await tensorsOf(file)).find(({ name }) => name === tensor);
      if (entry) return withPacked(file, entry, signal);
      throw new RerouteError("checkpoint/missing-tensor", `${quote(file)} holds no tensor ${quote(tensor)}`);
    },

    "text/measure": async ({ checkpoint, path: file }, { signal }) => {
      const { measureText } = await import("./run/measureText");
      return { tokens: await measureText(checkpoint, file, signal) };
    },

    "recipe/preflight": async ({ recipe, baseFolder, runsFolder }, { signal }) => {
      const { preflight } = await import("./run/preflight/preflight");
      const { probeWith } = await import("./run/startRun");
      const probe = probeWith(await machinery(), { recipe }, { signal });
      return preflight(recipe, baseFolder, {
        runDirectory: path.join(runsFolder, "next"),
        signal,
        probe,
        showsText: true,
      });
    },

    "run/start": async ({ force = false, queue, ...request }, context) => {
      const { startRun } = await import("./run/startRun");
      const { runDirectory } = request;
      const run = await spread(queue, { ...request, directory: runDirectory }, context, (spreading) =>
        startRun(spreading, request, { ...hooks(runDirectory, context), force }),
      );
      return outcome(runDirectory, run);
    },
    "run/resume": async ({ runDirectory, force = false, queue }, context) => {
      const { resumeRun } = await import("./run/startRun");
      const { readRun } = await import("./run/folder/runFolder");
      const known = await readRun(runDirectory);
      const run = await spread(queue, { ...known, directory: runDirectory }, context, (spreading) =>
        resumeRun(spreading, runDirectory, { ...hooks(runDirectory, context), force }),
      );
      return outcome(runDirectory, run);
    },
    "comparison/preflight": async (request, { signal }) => {
      const { forecastComparison } = await import("./run/compare/forecastComparison");
      return forecastComparison(await machinery(), request, signal, request.force);
    },
    "comparison/start": (request, context) => compare(request, context),
    "comparison/resume": async ({ directory, ...rest }, context) => {
      const { readComparison } = await import("./run/compare/comparisonFolder");
      return compare({ directory, ...(await readComparison(directory)), ...rest }, context);
    },
    "trace/import": async ({ path: file, ...request }, { signal }) => {
      const { importTrace } = await import("./run/importTrace");
      return importTrace({ file, ...request, signal });
    },
    "checkpoint/exportGguf": async (request, { signal, emit }) => {
      const { exportCheckpoint } = await import("./run/exportCheckpoint");
      const { runtimeOptions } = await import("./run/machine/machine");
      const { progressMeter } = await import("./run/progressMeter");
      const report = progressMeter(({ done, total }) => emit("export/progress", { file: request.file, done, total }));
      return exportCheckpoint({ ...request, runtime: runtimeOptions({ provider: "cpu" }) }, { signal, report });
    },
    "generation/start": async (request, { signal, emit }) => {
      const { generateText } = await import("./run/generateText");
      return generateText(request, {
        signal,
        onEvent: (event) => emit("generation/event", { id: request.id, event }),
      });
    },
    "generation/describe": async (request) => {
      const { describeForGeneration } = await import("./run/sideBySide");
      return describeForGeneration(request);
    },
    "generation/score": async ({ id, ...request }, { signal, emit }) => {
      const { scoreSideBySide } = await import("./run/sideBySide");
      const onTokens = (done: number, total: number) => emit("generation/scored", { id, done, total });
      return { texts: await scoreSideBySide(request, { signal, onTokens }) };
    },
    "run/list": async ({ runsFolder }) => {
      const { listRuns } = await import("./report/panels");
      const { listComparisons } = await import("./run/compare/listComparisons");
      return { runs: await listRuns(runsFolder), comparisons: await listComparisons(runsFolder) };
    },
    "run/label": async ({ directory, ...labels }) => {
      const { writeLabels } = await import("./run/folder/labels");
      await writeLabels(directory, labels);
      return null;
    },
    "run/size": async ({ directory }) => (await import("./run/folder/runSize")).runSize(directory),
    "run/cancel": async ({ directory }) => {
      const { requestCancel } = await import("./run/folder/onlookers");
      await requestCancel(directory);
      return null;
    },
    "run/workers": async ({ runDirectory }) => (await import("./run/tiles/timelineFile")).readRunWorkers(runDirectory),
    "queue/status": async ({ queue }) => {
      const { examineQueue } = await import("./run/queue/examineQueue");
      const { queueAddress } = await import("./run/queue/queueAddress");
      return examineQueue(queueAddress(queue.url, queue.insecure ?? false), await ownNumerics());
    },
    "run/read": async ({ runDirectory }) => {
      const { readReportData } = await import("./report/reportData");
      const { run, evaluation } = await readReportData(runDirectory);
      return { run, evaluation };
    },

    "panel/routing": async ({ runDirectory }) => (await import("./report/panels")).routingPanel(runDirectory),
    "panel/divergence": async ({ runDirectory }) => (await import("./report/panels")).divergencePanel(runDirectory),
    "panel/similarity": async ({ runDirectory, ...request }) =>
      (await import("./report/panels")).similarityPanel(runDirectory, request),
    "panel/expert": async ({ runDirectory, ...request }) =>
      (await import("./report/expertPanel")).expertPanel(runDirectory, request),
    "panel/text": async ({ runDirectory, ...request }) =>
      (await import("./report/expertPanel")).textPanel(runDirectory, request),
    "panel/calibration": async ({ runDirectory }) => (await import("./report/panels")).calibrationPanel(runDirectory),
    "panel/distillation": async ({ runDirectory }) => (await import("./report/panels")).distillationPanel(runDirectory),
    "panel/tradeOff": async ({ runsFolder }) => (await import("./report/panels")).tradeOffPanel(runsFolder),
    "panel/workers": async ({ runDirectory }) => (await import("./report/workersPanel")).workersPanel(runDirectory),
    "plan/read": async ({ text, ...of }) => (await import("./report/planPage")).readPlanPage(text, of),
    "plan/edit": async ({ text, edit, ...of }) => (await import("./report/planPage")).editPlanText(text, edit, of),
  };
}

/** Tensors of one .safetensors file, which needs no config.json beside it, or of a whole checkpoint folder. */
async function tensorsOf(file: string): Promise<TensorEntry[]> {
  if (file.endsWith(".safetensors")) return (await openShard(file)).tensors;
  return [...(await openCheckpoint(file)).tensors.values()];
}

/** Statistics of a tensor, and of what its codes stand for where it is part of a quantised checkpoint that is read. */
async function withPacked(file: string, entry: TensorEntry, signal: AbortSignal): Promise<TensorStatistics> {
  const statistics = await statisticsOfTensor(entry, signal);
  try {
    const checkpoint = await openCheckpoint(file.endsWith(".safetensors") ? path.dirname(file) : file);
    const { describeModel } = await import("./model/families");
    const { packedStatistics } = await import("./execution/packedStatistics");
    const packed = await packedStatistics(checkpoint, describeModel(checkpoint).description, entry.name, signal);
    return packed ? { ...statistics, packed } : statistics;
  } catch (error) {
    // A file without its checkpoint, of an unknown model, or a machine without onnxruntime: the stored numbers remain.
    if (/^(checkpoint|model|runtime)\//.test(errorCodeOf(error))) return statistics;
    throw error;
  }
}

async function ggufRows(file: string): Promise<TensorRow[]> {
  const { tensors } = await openGgufModel(file);
  return tensors.map(({ name, type, shape, byteLength, shard }) => ({
    name,
    dtype: type,
    shape,
    bytes: byteLength,
    shard: shard.name,
  }));
}

const ggufValuesUnread =
  "The values of GGUF tensors are not read; open the safetensors checkpoint that the file was converted from";

async function machinery(): Promise<RunMachinery> {
  return (await import("./pipeline")).machinery;
}

/** Does `work` with the workers of a queue, where the host names one. */
async function spread<T>(
  queue: QueueChoice | undefined,
  run: { directory: string; recipe: Recipe | ComparisonRecipe; baseFolder: string },
  { emit }: RequestContext,
  work: (machinery: RunMachinery) => Promise<T>,
): Promise<T> {
  if (queue === undefined) return work(await machinery());
  const { spreadRun } = await import("./run/queue/spreadRun");
  const { foldersOf } = await import("./run/queue/foldersOf");
  const { directory, recipe: machine } = run;
  const folders = await foldersOf(run);
  const program = path.join(__dirname, "cli.js");
  return spreadRun(await machinery(), { queue, program, machine, directory, folders, warn: warn(emit) }, work);
}

let numerics: Promise<Numerics> | null = null;

/** What runs of this machine need of workers; measured once. */
async function ownNumerics(): Promise<Numerics> {
  const { measureNumerics } = await import("./execution/numerics");
  const { runtimeOptions } = await import("./run/machine/machine");
  numerics ??= measureNumerics(runtimeOptions({ provider: "cpu" }));
  return numerics;
}

/** A run reports to the host as events that carry its directory. */
function hooks(runDirectory: string, { signal, emit }: RequestContext): RunHooks {
  return {
    signal,
    report: (progress) => emit("run/progress", { runDirectory, progress }),
    onMetrics: (line) => emit("run/metrics", { runDirectory, line }),
    onChange: (run) => emit("run/stageChanged", { runDirectory, run }),
    onWarning: warn(emit),
  };
}

/** A comparison reports as the run that its folder is; cells that fail are told of in the log and in comparison.json. */
async function compare(
  { directory, recipe, baseFolder, name, force = false, queue }: ComparisonStart,
  context: RequestContext,
): Promise<ComparisonOutcome> {
  const { signal, emit } = context;
  const { startComparison } = await import("./run/compare/startComparison");
  const { writeComparisonReport } = await import("./report/comparisonReport");
  const log = warn(emit);
  const request = { directory, recipe, baseFolder, name };
  const comparison = await spread(queue, request, context, (spreading) =>
    startComparison(spreading, writeComparisonReport, request, {
      signal,
      force,
      report: (progress) => emit("run/progress", { runDirectory: directory, progress }),
      onWarning: log,
      onCell: ({ id }, number, total, remainingSeconds) =>
        emit("comparison/cell", { runDirectory: directory, cell: { id, number, total, remainingSeconds } }),
      onFailure: ({ id }, error) => log(`${name}, cell ${id}: ${errorCodeOf(error)}: ${error.message}`),
      onChange: () => emit("comparison/changed", { runDirectory: directory }),
    }),
  );
  return { directory, comparison };
}

function warn(emit: EmitEvent): (message: string) => void {
  return (message) => emit("log", { level: "warning", message });
}

async function outcome(runDirectory: string, run: RunFile): Promise<RunOutcome> {
  const { readReportData } = await import("./report/reportData");
  const { evaluation } = await readReportData(runDirectory);
  const report = run.stages.some(({ id, state }) => id === "report" && state === "done");
  return {
    runDirectory,
    output: path.resolve(run.baseFolder, run.recipe.output),
    report: report ? path.join(runDirectory, runFiles.report) : null,
    evaluation,
  };
}
