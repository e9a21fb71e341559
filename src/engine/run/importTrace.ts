import { readdir } from "node:fs/promises";
import path from "node:path";
import { RerouteError, throwIfCancelled } from "../../protocol/errors";
import { recipeSchema } from "../../protocol/recipe";
import { runFiles } from "../../protocol/run";
import { quote } from "../checkpoint/quote";
import { saveRoutingStatistics } from "../routing/statisticsFile";
import { readTrace, type TraceFormat } from "../routing/trace/readTrace";
import { traceStatistics } from "../routing/trace/traceStatistics";
import type { ModelDescription } from "../model/description";
import { requireExperts } from "../model/requireExperts";
import { openModel } from "./modelCache";
import { lockRunFolder } from "./folder/lock";
import { appendLog, createRunFolder, newRun, writeRun } from "./folder/runFolder";

export interface ImportTraceRequest {
  /** The trace, or a folder with SGLang's .csv files. */
  file: string;
  format: TraceFormat | "auto";
  /** New run folder; must not exist or be empty. */
  runDirectory: string;
  /** The checkpoint that the trace was recorded with. */
  checkpoint?: string;
  /** Looked at before anything is written. */
  signal?: AbortSignal;
  /** For traces that hold sums only, where no checkpoint is given. */
  numExpertsPerToken?: number;
}

export interface ImportedTrace {
  runDirectory: string;
  format: TraceFormat;
  /** What the trace left open and what was assumed. */
  notes: string[];
}

/**
 * Makes a run folder of a routing trace, whose Routing panel shows it like a profile: tokens and frequencies; what a trace
 * does not hold (routing weights, selected mass, margins) has no value there.
 *
 * @throws RerouteError trace/invalid, output/not-empty, run/locked, cancelled; codes of openCheckpoint and describeModel
 */
export async function importTrace(request: ImportTraceRequest): Promise<ImportedTrace> {
  const { file, format, runDirectory } = request;
  await refuseUsedFolder(runDirectory);
  const model = request.checkpoint === undefined ? null : await openModel(request.checkpoint);
  if (model !== null) requireExperts(model.description, "record a routing trace of");
  const trace = await readTrace(file, format, {
    layers: model?.description.layers.length ?? null,
    expertsPerToken: model ? expertsPerTokenOf(model.description) : (request.numExpertsPerToken ?? null),
  });
  const { statistics, notes } = traceStatistics(trace, {
    checkpoint: model?.checkpoint.directory ?? file,
    fingerprint: model?.fingerprint ?? "",
    description: model?.description ?? null,
    numExpertsPerToken: request.numExpertsPerToken ?? null,
  });
  throwIfCancelled(request.signal);
  const recipe = recipeSchema.parse({
    schemaVersion: 1,
    name: `Trace ${path.basename(file)}`.slice(0, 200),
    teacher: model?.checkpoint.directory ?? file,
    data: { calibration: file },
    output: path.join(runDirectory, "checkpoint"),
  });
  await createRunFolder(runDirectory);
  const release = await lockRunFolder(runDirectory);
  try {
    await saveRoutingStatistics(path.join(runDirectory, runFiles.statistics), statistics);
    const run = newRun(path.basename(runDirectory), recipe, path.dirname(file));
    const at = new Date().toISOString();
    await writeRun(runDirectory, {
      ...run,
      // A trace is all that this run will ever hold.
      stages: run.stages.map((stage) =>
        stage.id === "profile"
          ? { ...stage, state: "done", startedAt: at, finishedAt: at, inputHash: "trace" }
          : { ...stage, state: "skipped" },
      ),
    });
    await appendLog(runDirectory, { level: "info", event: "trace imported", format: trace.format, file, notes });
  } finally {
    await release();
  }
  return { runDirectory, format: trace.format, notes };
}

/** As many as each token uses in every sparse layer. */
function expertsPerTokenOf({ layers }: ModelDescription): number | null {
  const [first] = layers.flatMap(({ feedForward }) =>
    feedForward.kind === "moe" ? [feedForward.numExpertsPerToken] : [],
  );
  return first ?? null;
}

async function refuseUsedFolder(runDirectory: string): Promise<void> {
  const names = await readdir(runDirectory).catch(() => []);
  if (names.length === 0) return;
  throw new RerouteError(
    "output/not-empty",
    `The run folder ${quote(runDirectory)} holds ${names.slice(0, 3).map(quote).join(", ")}; choose another folder`,
  );
}
