import { createHash } from "node:crypto";
import { readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { completeOutput } from "../../checkpoint/outputFolder";
import { quote } from "../../checkpoint/quote";
import { applyPlan, compressionMetrics, makePlan, methods, type MethodContext } from "../../compression/methods";
import { isPruningCriterion, pruningCriteria } from "../../compression/pruning/criteria";
import { aimerScores } from "../../compression/pruning/aimer";
import { makePruningPlan } from "../../compression/pruning/pruningPlan";
import { parsePlan, validatePlan } from "../../compression/plan/validatePlan";
import { writeCompressedCheckpoint } from "../../compression/writeCompressed";
import { loadRoutingStatistics } from "../../routing/statisticsFile";
import { RerouteError } from "../../../protocol/errors";
import type { CompressionPlan } from "../../../protocol/plan";
import type { CompressOptions } from "../../../protocol/recipe";
import type { Stage, StageContext } from "./stage";
import type { OpenModel } from "../work";
import { dataInputs, readSequences } from "./data";
import { provenanceOf } from "./provenance";
import { isFinishedCheckpoint } from "./outputs";

/** A hand-written plan lists expert ids; nothing of a real model comes near this. */
const maxPlanBytes = 64 * 2 ** 20;

/** Decides what leaves (compression-plan.json), and writes the compressed checkpoint. */
export const compressStage: Stage = {
  id: "compress",
  inputs: async (context) => {
    const { paths, run } = context;
    const { fingerprint } = await context.models.model(paths.teacher);
    const planText = paths.plan === null ? null : await readPlanText(paths.plan);
    const plan = planText === null ? null : createHash("sha256").update(planText).digest("hex");
    const profile = run.stages.find(({ id }) => id === "profile")!.inputHash;
    const { plan: _path, ...options } = run.recipe.compress!;
    const usesProfile = plan === null && needsStatistics(options);
    const usesText = plan !== null || !isPruningCriterion(options.method);
    return {
      version: 1,
      teacher: fingerprint,
      options,
      plan,
      profile: usesProfile ? profile : null,
      data: usesText ? await dataInputs(context, paths.calibrationData, run.recipe.data.sequences) : null,
      seed: run.recipe.seed,
      output: outputOf(context),
    };
  },
  hasOutputs: async (context) => isFinishedCheckpoint(outputOf(context), context.runId),
  discard: async (context) => {
    await rm(context.paths.file("plan"), { force: true });
    await rm(stateDirectory(context), { recursive: true, force: true });
    // Only the copy inside the run folder is ours to remove; a finished output stays until its owner deletes it.
    await rm(context.paths.file("compressed"), { recursive: true, force: true });
  },
  run: async (context) => {
    const { paths, run, signal, report, runId } = context;
    const model = await context.models.model(paths.teacher);
    const plan = await planFor(context, model);
    for (const note of plan.notes ?? []) await context.warn(note);
    await writeFileAtomically(paths.file("plan"), `${JSON.stringify(plan, null, 2)}\n`);
    const layers = await applyPlan(await methodContext(context, model, plan.paradigm !== "pruning"), plan);
    for (const { notes } of layers?.values() ?? []) for (const note of notes) await context.warn(note);
    context.models.forget(outputOf(context));
    await writeCompressedCheckpoint({
      ...model,
      plan,
      ...(layers === null ? {} : { layers }),
      directory: outputOf(context),
      provenance: { ...provenanceOf(run), metrics: compressionMetrics(layers) },
      runId,
      leaveMarker: true,
      signal,
      report,
    });
  },
  complete: async (context) => {
    await rm(stateDirectory(context), { recursive: true, force: true });
    context.models.forget(outputOf(context));
    await completeOutput(outputOf(context));
  },
};

/** Whether a method looks at what calibration tokens did. */
export function needsStatistics({
  method,
  protectSuperExperts,
}: Pick<CompressOptions, "method" | "protectSuperExperts">): boolean {
  if (!isPruningCriterion(method)) return methods[method].needs.statistics;
  return protectSuperExperts !== "off" || pruningCriteria[method].source === "statistics";
}

/** Whether a method needs calibration text at all: for a profile, or to run it through the experts. */
export function needsText(options: Pick<CompressOptions, "method" | "protectSuperExperts">): boolean {
  return needsStatistics(options) || (!isPruningCriterion(options.method) && methods[options.method].needs.text);
}

async function planFor(context: StageContext, model: OpenModel): Promise<CompressionPlan> {
  const { paths, run, signal, report } = context;
  const options = run.recipe.compress!;
  if (paths.plan !== null) {
    const plan = parsePlan(await readPlanText(paths.plan), quote(paths.plan));
    validatePlan(plan, model.description, model.fingerprint);
    return plan;
  }
  if (!isPruningCriterion(options.method)) return makePlan(await methodContext(context, model, true));
  const weightScores =
    options.method === "aimer" ? await aimerScores(model.checkpoint, model.description, { signal, report }) : null;
  const statistics = needsStatistics(options) ? await loadRoutingStatistics(paths.file("statistics")) : null;
  return makePruningPlan({ ...model, options, seed: run.recipe.seed, statistics, weightScores });
}

/** @throws RerouteError plan/invalid */
export async function readPlanText(file: string): Promise<string> {
  try {
    const { size } = await stat(file);
    if (size > maxPlanBytes)
      throw new RerouteError("plan/invalid", `The plan ${quote(file)} has ${size} bytes, the limit is ${maxPlanBytes}`);
    return await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof RerouteError) throw error;
    throw new RerouteError("plan/invalid", `The plan ${quote(file)} cannot be read: ${String(error)}`, {
      cause: error,
    });
  }
}

/** What methods beside the scores work with; the calibration text is only read where it is run through the model. */
async function methodContext(context: StageContext, model: OpenModel, withText: boolean): Promise<MethodContext> {
  const { paths, run, runtime, signal, report } = context;
  const options = run.recipe.compress!;
  // A plan with constant experts takes them from the profile, which a run always has.
  const wantsStatistics = paths.plan !== null || needsStatistics(options);
  return {
    ...model,
    options,
    seed: run.recipe.seed,
    runtime,
    signal,
    report,
    statistics: wantsStatistics ? await loadRoutingStatistics(paths.file("statistics")) : null,
    sequences: withText ? await readSequences(context, paths.calibrationData, run.recipe.data.sequences) : null,
    stateDirectory: stateDirectory(context),
  };
}

/** Where a compression that is interrupted continues from; removed once the stage is done. */
function stateDirectory({ paths }: StageContext): string {
  return path.join(paths.runDirectory, "compress-state");
}

function outputOf({ paths }: StageContext): string {
  return paths.student;
}
