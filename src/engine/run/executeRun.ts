import { errorCodeOf, isCancelled, RerouteError, throwIfCancelled } from "../../protocol/errors";
import type { MetricsLine } from "../../protocol/metrics";
import type { ReportProgress } from "../../protocol/progress";
import { stageIds, type RunFile, type StageId, type StageRecord } from "../../protocol/run";
import { contentKey } from "../checkpoint/contentKey";
import { runtimeOf } from "./machine/machine";
import { whileUnchanged } from "./folder/inputWatch";
import { appendMetrics, rewindMetrics } from "./folder/metricsFile";
import { ModelCache } from "./modelCache";
import { progressMeter } from "./progressMeter";
import { sampleResources } from "./machine/resources";
import { writtenSince, weightStamp } from "./folder/weightStamp";
import { requireNewOutput } from "./stages/outputs";
import { appendLog, idOf, pendingStage, runPaths, writeRun } from "./folder/runFolder";
import { RunShare, type ExpectedStage, type StageClock } from "./runShare";
import type { Stage, StageContext } from "./stages/stage";
import type { HeavyWork } from "./work";

export interface ExecuteOptions {
  runDirectory: string;
  run: RunFile;
  stages: Readonly<Record<StageId, Stage>>;
  work: HeavyWork;
  /** Of a caller that has opened the run's checkpoints and texts already. */
  models?: ModelCache;
  signal: AbortSignal;
  report?: ReportProgress;
  onMetrics?: (line: MetricsLine) => void;
  onChange?: (run: RunFile) => void;
  onWarning?: (message: string) => void;
  force?: boolean;
  /** See StageContext. */
  ownsOutput?: boolean;
  /** Counts the run as a part of a longer one. */
  share?: StageClock;
}

/**
 * Does a run's stages in order. A stage that is done is reused while the key of its inputs is the same and its outputs are
 * there. Where an input changed, the stage and everything after it are done again; where only an output is missing, the
 * stage makes it again, and what follows is kept as long as it was made from the same content. The log says why. Whatever
 * happens is in run.json before this returns or throws. The caller holds the run folder's lock.
 * @throws what the failing stage threw; `cancelled`
 */
export async function executeRun(options: ExecuteOptions): Promise<RunFile> {
  const state = new RunState(options);
  const context = await makeContext(options, state);
  let isChanged = false;
  let isTold = false;
  for (const id of stageIds) {
    const record = state.record(id);
    if (record.state === "skipped") continue;
    const stage = options.stages[id];
    throwIfCancelled(options.signal);
    if (record.state === "running") await state.warn(endedSilently(id));
    const inputHash = await state.guard(id, () => keyOf(stage, context));
    isChanged ||= record.inputHash !== null && record.inputHash !== inputHash;
    if (record.state === "done") {
      const reason = isChanged ? "an input changed since it was done" : await missingOutputs(stage, context);
      if (reason === null) {
        if (!isTold && record.weightStamp != null && record.weightStamp !== (await weightStamp(context))) {
          await state.warn(writtenSince(id, context.paths.teacher));
          isTold = true;
        }
        await stage.complete?.(context);
        continue;
      }
      await state.log("info", "invalidated", { stage: id, reason });
      options.onWarning?.(`Stage ${id} is done again: ${reason}`);
    }
    if (record.inputHash !== null && record.inputHash !== inputHash) await stage.discard(context);
    if (isChanged) await state.resetAfter(id);
    await runStage(state, stage, context, inputHash);
  }
  return state.run;
}

/**
 * Refuses, before anything is done, a run that would end at its own finished output: that is the user's by now, and is not
 * overwritten. Where a stage before it only lost its outputs, they are made again from the same inputs, and the finished
 * output stays.
 * @throws RerouteError output/not-empty
 */
export async function checkFinishedOutput(options: ExecuteOptions): Promise<void> {
  const writer = (["calibrate", "compress"] as const).find((id) => recordOf(options.run, id).state !== "skipped");
  if (writer === undefined || recordOf(options.run, writer).state !== "done") return;
  const context = await makeContext(options, new RunState(options));
  for (const id of stageIds.slice(0, stageIds.indexOf(writer) + 1)) {
    const { state, inputHash } = recordOf(options.run, id);
    if (state === "skipped") continue;
    const stage = options.stages[id];
    if (inputHash !== (await keyOf(stage, context))) {
      await requireNewOutput(context, `stage ${id} has other inputs now, and ${writer} would write its result anew`);
    }
    if (!(await stage.hasOutputs(context))) return;
  }
}

async function keyOf(stage: Stage, context: StageContext): Promise<string> {
  return contentKey({ stage: stage.id, inputs: await stage.inputs(context) });
}

/** Only a process that had no time to write anything leaves a stage under way. */
function endedSilently(id: StageId): string {
  return (
    `The process that worked on stage ${id} ended without a word: it was killed, ran out of memory, or a weight file was ` +
    "cut short under it, which the system answers with SIGBUS. The stage goes on"
  );
}

async function missingOutputs(stage: Stage, context: StageContext): Promise<string | null> {
  return (await stage.hasOutputs(context)) ? null : "its outputs are missing";
}

async function runStage(state: RunState, stage: Stage, context: StageContext, inputHash: string): Promise<void> {
  // A stage that was interrupted reports the time and the peak of all its attempts.
  const { seconds: before, peakMemoryBytes: peakBefore } = state.record(stage.id);
  const peak = (sample: number): number => Math.max(sample, peakBefore ?? 0);
  await state.update(stage.id, {
    state: "running",
    startedAt: new Date().toISOString(),
    finishedAt: null,
    inputHash,
    error: null,
  });
  const started = performance.now();
  state.share.begin(stage.id, before);
  const seconds = (): number => before + (performance.now() - started) / 1000;
  const sampler = sampleResources(
    stage.id,
    (line) => void context.onMetrics(line),
    () => state.tokensPerSecond,
  );
  try {
    await whileUnchanged(context.models, state.cancel, (signal) => {
      state.signal = signal;
      return stage.run(context);
    });
    const peakMemoryBytes = peak(sampler.stop());
    await state.update(stage.id, {
      state: "done",
      finishedAt: new Date().toISOString(),
      seconds: seconds(),
      peakMemoryBytes,
      weightStamp: await weightStamp(context),
    });
    state.share.end(stage.id, seconds());
    await stage.complete?.(context);
  } catch (error) {
    const peakMemoryBytes = peak(sampler.stop());
    await state.fail(stage.id, error, { seconds: seconds(), peakMemoryBytes }).catch(() => undefined);
    throw error;
  } finally {
    state.signal = state.cancel;
  }
}

function expectedStages({ stages, preflight }: RunFile): ExpectedStage[] {
  const predicted = new Map(preflight?.stages.map(({ stage, seconds }) => [stage, seconds]));
  return stages
    .filter(({ state }) => state !== "skipped")
    .map(({ id, state, seconds }) => ({
      id,
      seconds: predicted.get(id) ?? 0,
      took: state === "done" ? seconds : null,
    }));
}

function recordOf(run: RunFile, id: StageId): StageRecord {
  return run.stages.find((stage) => stage.id === id)!;
}

/** run.json in memory and on disk. */
class RunState {
  run: RunFile;
  /** As the last report of progress in tokens had it. */
  tokensPerSecond: number | null = null;
  /** What stops the stage that is being worked on: the user, or a weight file that changed. */
  signal: AbortSignal;
  readonly share: StageClock;
  readonly #options: ExecuteOptions;

  constructor(options: ExecuteOptions) {
    this.share = options.share ?? new RunShare(expectedStages(options.run));
    this.#options = options;
    this.run = options.run;
    this.signal = options.signal;
  }

  /** The user's wish alone. */
  get cancel(): AbortSignal {
    return this.#options.signal;
  }

  record(id: StageId): StageRecord {
    return recordOf(this.run, id);
  }

  async update(id: StageId, change: Partial<StageRecord>): Promise<void> {
    const stages = this.run.stages.map((stage) => (stage.id === id ? { ...stage, ...change } : stage));
    this.run = { ...this.run, stages };
    await writeRun(this.#options.runDirectory, this.run);
    this.#options.onChange?.(this.run);
    if (change.state) await this.log("info", "stage", { stage: id, state: change.state });
  }

  /** Stages after this one are no longer done; their input hashes stay, to tell whether their left-overs fit. */
  async resetAfter(id: StageId): Promise<void> {
    const from = stageIds.indexOf(id) + 1;
    const stages = this.run.stages.map((stage) => {
      if (stageIds.indexOf(stage.id) < from || stage.state === "skipped") return stage;
      return { ...pendingStage(stage.id), inputHash: stage.inputHash, seconds: stage.seconds };
    });
    this.run = { ...this.run, stages };
  }

  async fail(id: StageId, error: unknown, change: Partial<StageRecord>): Promise<void> {
    const cancelled = isCancelled(error);
    const message = error instanceof Error ? error.message : String(error);
    await this.update(id, {
      ...change,
      state: cancelled ? "cancelled" : "failed",
      finishedAt: new Date().toISOString(),
      error: cancelled ? null : { code: errorCodeOf(error), message },
    });
    if (!cancelled) {
      const stack = error instanceof RerouteError || !(error instanceof Error) ? undefined : error.stack;
      await this.log("error", "failed", { stage: id, code: errorCodeOf(error), message, stack });
    }
  }

  /** Reading a stage's inputs may fail, too: the stage is then recorded as failed. */
  async guard<T>(id: StageId, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      await this.fail(id, error, {}).catch(() => undefined);
      throw error;
    }
  }

  async warn(message: string): Promise<void> {
    this.#options.onWarning?.(message);
    await this.log("warning", "warning", { message });
  }

  log(level: "info" | "warning" | "error", event: string, fields: Record<string, unknown>): Promise<void> {
    return appendLog(this.#options.runDirectory, { level, event, ...fields });
  }
}

async function makeContext(options: ExecuteOptions, state: RunState): Promise<StageContext> {
  const { run, runDirectory } = options;
  const paths = await runPaths(runDirectory, run.recipe, run.baseFolder);
  let writing: Promise<void> = Promise.resolve();
  // One change of the file after the other, in the order they come; one that fails does not stop the work.
  const afterOthers = (change: () => Promise<void>) => (writing = writing.then(change).catch(() => undefined));
  return {
    get run() {
      return state.run;
    },
    paths,
    runtime: runtimeOf(run),
    models: options.models ?? new ModelCache(),
    work: options.work,
    get signal() {
      return state.signal;
    },
    report: progressMeter((progress) => {
      state.tokensPerSecond = progress.unit === "tokens" ? (progress.rate ?? null) : null;
      options.report?.({ ...progress, run: state.share.behind(progress) });
    }),
    onMetrics: (line) => {
      options.onMetrics?.(line);
      return afterOthers(() => appendMetrics(paths.file("metrics"), line));
    },
    rewindMetrics: (step) => afterOthers(() => rewindMetrics(paths.file("metrics"), step)),
    warn: (message) => state.warn(message),
    recordTrained: (trained) => state.update("calibrate", { trained }),
    force: options.force ?? false,
    ownsOutput: options.ownsOutput ?? false,
    runId: idOf(run),
  };
}
