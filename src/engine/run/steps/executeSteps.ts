import path from "node:path";
import { errorCodeOf, isCancelled, throwIfCancelled } from "../../../protocol/errors";
import type { EvaluationFile } from "../../../protocol/evaluation";
import { runFiles, stepFiles, type RunFile, type StageRecord } from "../../../protocol/run";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { contentKey } from "../../checkpoint/contentKey";
import { sharedMachinery } from "../compare/sharedMachinery";
import { removeEvaluationState, removeLeftovers, removeTeacherTargets } from "../folder/leftovers";
import { createRunFolder, isRunFolder, pendingStage, readRun, runPaths, writeRun } from "../folder/runFolder";
import { partOf, RunShare } from "../runShare";
import { fileExists } from "../stages/outputs";
import type { RunHooks, RunMachinery, RunRequest } from "../runRequest";
import { evaluationOfSteps } from "./evaluationOfSteps";
import { pipelineSteps, type RunStep } from "./pipelineSteps";

type StartRun = (machinery: RunMachinery, request: RunRequest, hooks: RunHooks) => Promise<RunFile>;

/**
 * Works a pipeline off, step by step, each an ordinary run in `steps/<number>-<name>` with its own checkpoint. A step's run.json
 * is the truth about it; the pipeline's own repeats the records of all of them. Called again it goes on where it stopped: steps
 * whose inputs are the same are kept, and a checkpoint between steps whose inputs changed is made anew. evaluation.json is
 * there after every step that measures. The caller holds the run folder's lock.
 *
 * @throws what the failing step threw; `cancelled`
 */
export async function executeSteps(
  machinery: RunMachinery,
  startRun: StartRun,
  { runDirectory, run: found }: { runDirectory: string; run: RunFile },
  hooks: RunHooks,
): Promise<RunFile> {
  const shared = path.join(runDirectory, stepFiles.shared);
  await createRunFolder(shared);
  await removeLeftovers(shared);
  const steps = pipelineSteps(found.recipe, runDirectory);
  const state = new StepsState(runDirectory, found, hooks);
  for (const step of steps)
    if (await isRunFolder(step.runDirectory)) state.take(step, await readRun(step.runDirectory));
  const share = hooks.share ?? new RunShare(state.expected());
  const together = sharedMachinery(machinery, shared, true);
  for (const step of steps) {
    throwIfCancelled(hooks.signal);
    const before = `Step ${step.number} of ${steps.length} (${step.name})`;
    try {
      const { runtime, baseFolder } = state.run;
      const request = { runDirectory: step.runDirectory, recipe: step.recipe, baseFolder, runtime };
      await startRun(together, request, {
        signal: hooks.signal,
        force: hooks.force ?? false,
        ownsOutput: step.ownsOutput,
        share: partOf(share, `${step.number}`),
        report: (progress) => hooks.report?.({ ...progress, message: `${before}: ${progress.message}` }),
        onWarning: (message) => hooks.onWarning?.(`${before}: ${message}`),
        ...(hooks.onMetrics ? { onMetrics: hooks.onMetrics } : {}),
        onChange: (run) => state.show(step, run),
      });
    } catch (error) {
      await state.fail(step, error);
      throw error;
    } finally {
      await state.written();
    }
    await writeEvaluation(runDirectory, state.run, steps.slice(0, step.number));
  }
  await removeTeacherTargets(shared);
  await removeEvaluationState(shared, "all");
  await report(machinery, state);
  return state.run;
}

/** What is known after some steps; nothing while none has measured. */
async function writeEvaluation(runDirectory: string, { recipe }: RunFile, steps: readonly RunStep[]): Promise<void> {
  const evaluation: EvaluationFile | null = await evaluationOfSteps(steps, recipe.seed);
  if (evaluation === null) return;
  await writeFileAtomically(path.join(runDirectory, runFiles.evaluation), `${JSON.stringify(evaluation, null, 2)}\n`);
}

/** Writes the pipeline's report, unless it is there and nothing has changed. */
async function report({ stages }: RunMachinery, state: StepsState): Promise<void> {
  const { run, runDirectory } = state;
  const inputHash = contentKey({
    version: 1,
    name: run.name,
    stages: run.stages
      .filter(({ id }) => id !== "report")
      .map(({ id, step, inputHash: inputs, finishedAt }) => ({ id, step, inputHash: inputs, finishedAt })),
  });
  const paths = await runPaths(runDirectory, run.recipe, run.baseFolder);
  const isThere = (await fileExists(paths.file("report"))) && (await fileExists(paths.file("reportMarkdown")));
  const known = run.stages.find(({ id }) => id === "report")!;
  if (isThere && known.state === "done" && known.inputHash === inputHash) return;
  const at = new Date().toISOString();
  await state.change((record) =>
    record.id === "report"
      ? { ...pendingStage("report"), state: "done", startedAt: at, finishedAt: at, inputHash }
      : record,
  );
  await stages.report.write(runDirectory);
}

/** The pipeline's run.json, in memory and on disk: its stages are those of its steps as they stand. */
class StepsState {
  #writing: Promise<void> = Promise.resolve();

  constructor(
    readonly runDirectory: string,
    public run: RunFile,
    readonly hooks: RunHooks,
  ) {}

  /** What the pre-flight predicted of each stage, and what those that are done took. */
  expected(): { id: string; seconds: number; took: number | null }[] {
    const { stages, preflight } = this.run;
    return stages
      .filter(({ step }) => step !== undefined)
      .map(({ id, step, state, seconds: took }) => ({
        id: `${step} ${id}`,
        kind: id,
        seconds: preflight?.stages.find((stage) => stage.step === step && stage.stage === id)?.seconds ?? 0,
        took: state === "done" ? took : null,
      }));
  }

  /** Repeats a step's records, without writing them. */
  take({ number }: RunStep, { stages }: RunFile): void {
    const own = new Map(stages.map((record) => [record.id, record]));
    this.#set((record) => {
      const known = record.step === number ? own.get(record.id) : undefined;
      return known && known.state !== "skipped" ? { ...known, step: number } : record;
    });
  }

  /** The same, written in the order in which they come; one that fails does not stop the work. */
  show(step: RunStep, run: RunFile): void {
    this.take(step, run);
    this.#write();
  }

  /** A step that was refused before it began says so where its first stage would. */
  async fail({ number }: RunStep, error: unknown): Promise<void> {
    const isOwn = (record: StageRecord) => record.step === number;
    const isTold = this.run.stages.some((record) => isOwn(record) && record.error !== null);
    const first = this.run.stages.find((record) => isOwn(record) && record.state !== "done");
    if (isCancelled(error) || isTold || !first) return;
    const message = error instanceof Error ? error.message : String(error);
    await this.change((record) =>
      record === first ? { ...record, state: "failed", error: { code: errorCodeOf(error), message } } : record,
    );
  }

  async change(to: (record: StageRecord) => StageRecord): Promise<void> {
    this.#set(to);
    this.#write();
    await this.written();
  }

  written(): Promise<void> {
    return this.#writing;
  }

  #set(to: (record: StageRecord) => StageRecord): void {
    this.run = { ...this.run, stages: this.run.stages.map(to) };
  }

  #write(): void {
    const { run } = this;
    this.#writing = this.#writing.then(() => writeRun(this.runDirectory, run)).catch(() => undefined);
    this.hooks.onChange?.(run);
  }
}
