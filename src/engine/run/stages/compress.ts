import { readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { completeOutput } from "../../checkpoint/outputFolder";
import { quote } from "../../checkpoint/quote";
import { lostToDropping } from "../../compression/merging/applyMerging";
import { applyPlan, compressionMetrics, makePlan, type MethodContext } from "../../compression/methods";
import { isPruningCriterion } from "../../compression/pruning/criteria";
import { aimerScores } from "../../compression/pruning/aimer";
import { evolvedPlan } from "../../compression/budgets/evolvedCounts";
import { makePruningPlan } from "../../compression/pruning/pruningPlan";
import { mappingOfMade } from "../../compression/plan/expertMapping";
import { parsePlan, validatePlan } from "../../compression/plan/validatePlan";
import { checkWritten } from "../../compression/quantising/readBack";
import { writeCompressedCheckpoint, type WriteCompressedOptions } from "../../compression/writeCompressed";
import { needsStatistics, runsText } from "../../compression/methodNeeds";
import { textRead } from "../../data/sequences";
import { loadRoutingStatistics } from "../../routing/statisticsFile";
import { RerouteError } from "../../../protocol/errors";
import type { CompressionPlan } from "../../../protocol/plan";
import { paradigmOf } from "../../../protocol/methods";
import { methodCost, secondsOf } from "../../compression/cost/methodCost";
import { baseProcessBytes } from "../../execution/memoryPlan";
import { noScratch, streamingMemory, type ForecastInput, type StageForecast } from "./forecast";
import type { Stage, StageContext } from "./stage";
import type { OpenModel } from "../work";
import { readSequences, sequencesOf } from "./data";
import { fileExists, isFinishedCheckpoint, makeWay, provenanceOf, readProvenance } from "./outputs";

/** A hand-written plan lists expert ids; nothing of a real model comes near this. */
const maxPlanBytes = 64 * 2 ** 20;

/** Decides what leaves (compression-plan.json), and writes the compressed checkpoint. */
export const compressStage: Stage = {
  id: "compress",
  inputs: async (context) => {
    const { paths, run } = context;
    const { fingerprint } = await context.models.model(paths.source);
    const planText = paths.plan === null ? null : await readPlanText(paths.plan);
    const profile = run.stages.find(({ id }) => id === "profile")!.inputHash;
    const { plan: _path, ...options } = run.recipe.compress!;
    const usesProfile = planText === null && needsStatistics(options);
    const usesText = planText !== null || !isPruningCriterion(options.method) || runsText(options);
    return {
      version: 2,
      teacher: fingerprint,
      options,
      plan: planText,
      profile: usesProfile ? profile : null,
      text: usesText ? textRead(await sequencesOf(context, paths.calibrationData, run.recipe.data.sequences)) : null,
      seed: run.recipe.seed,
      output: outputOf(context),
      ...(paths.source === paths.teacher ? {} : { origin: (await context.models.model(paths.teacher)).fingerprint }),
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
    const model = await context.models.model(paths.source);
    await makeWay(context, "the compression would write its result there");
    const plan = await planFor(context, model);
    if (
      context.run.recipe.precision === "preview" &&
      paths.plan === null &&
      needsStatistics(context.run.recipe.compress!)
    )
      plan.notes = [...(plan.notes ?? []), "Chosen by a profile whose products are approximate (precision preview)"];
    for (const note of plan.notes ?? []) await context.warn(note);
    await writePlan(paths.file("plan"), plan);
    const methodInputs = await methodContext(context, model, plan.paradigm !== "pruning");
    const statisticsFile = paths.file("statistics");
    const elsewhere = context.work.stageLayers?.({ context: methodInputs, plan, statisticsFile });
    const layers = await applyPlan({ ...methodInputs, ...(elsewhere ? { elsewhere } : {}) }, plan);
    for (const { notes } of layers?.values() ?? []) for (const note of notes) await context.warn(note);
    const found = lostToDropping(layers?.values() ?? []).filter((note) => !plan.notes?.includes(note));
    if (found.length > 0) {
      for (const note of found) await context.warn(note);
      plan.notes = [...(plan.notes ?? []), ...found];
      await writePlan(paths.file("plan"), plan);
    }
    context.models.forget(outputOf(context));
    const trainedOn = (await readProvenance(paths.source))?.trainedOn;
    await writeCompressedCheckpoint({
      ...model,
      plan,
      ...(layers === null ? {} : { layers }),
      ...(await originOf(context)),
      directory: outputOf(context),
      provenance: { ...provenanceOf(run), ...(trainedOn ? { trainedOn } : {}), metrics: compressionMetrics(layers) },
      runId,
      leaveMarker: true,
      signal,
      report,
    });
    if (plan.paradigm === "quantisation") await checkWritten(methodInputs, plan, layers!, outputOf(context));
  },
  forecast,
  scratch: () => noScratch,
  complete: async (context) => {
    await rm(stateDirectory(context), { recursive: true, force: true });
    context.models.forget(outputOf(context));
    await completeOutput(outputOf(context));
    await restorePlan(context);
  },
};

/** The plan is in the checkpoint's reroute.json too, so a deleted file is no reason to compress again. */
async function restorePlan(context: StageContext): Promise<void> {
  const file = context.paths.file("plan");
  if (await fileExists(file)) return;
  if ((await readProvenance(outputOf(context)))?.plan == null) return;
  // As it is there, to the byte: parsing would give keys another order.
  const text = await readFile(path.join(outputOf(context), "reroute.json"), "utf8");
  await writePlan(file, (JSON.parse(text) as { plan: CompressionPlan }).plan);
}

/** Of a source that was made from the teacher: the teacher, and which of its experts the source's stand for. */
async function originOf({ paths, models }: StageContext): Promise<Pick<WriteCompressedOptions, "origin">> {
  if (paths.source === paths.teacher) return {};
  const { checkpoint, description, fingerprint } = await models.model(paths.teacher);
  return {
    origin: {
      teacher: { path: checkpoint.directory, fingerprint },
      sourceExperts: mappingOfMade(description, await readProvenance(paths.source)),
    },
  };
}

function writePlan(file: string, plan: CompressionPlan): Promise<void> {
  return writeFileAtomically(file, `${JSON.stringify(plan, null, 2)}\n`);
}

/**
 * A method's own work at the rates of products and plain code measured here, its passes of text, and the bytes it writes:
 * merging and editing stage each layer before. A plan from a file is taken for copying.
 */
function forecast(input: ForecastInput): StageForecast {
  const { recipe, probe, bytesAfter, teacher, time } = input;
  const { compress } = recipe;
  const copying = {
    seconds: time.copy(bytesAfter),
    teacherSeconds: 0,
    peakMemoryBytes: baseProcessBytes + 2 ** 26,
    assumption: `${bytesAfter} bytes copied at ${(time.writeBytesPerSecond / 1e6).toFixed(0)} MB/s`,
  };
  if (!compress || compress.plan !== undefined) return copying;
  const cost = methodCost(compress, teacher, recipe.data);
  const own = probe?.compute ? secondsOf(cost, probe.compute) : 0;
  const copies = paradigmOf(compress.method) === "pruning" ? 1 : 2;
  if (own === 0 && cost.passTokens === 0) return copying;
  const streaming =
    cost.passTokens > 0
      ? streamingMemory(input, { tokens: cost.passTokens, allTokens: cost.passTokens })
      : copying.peakMemoryBytes;
  const rate = (flops: number | undefined) => `${((flops ?? 0) / 1e9).toFixed(1)} G/s`;
  const subspace =
    cost.subspace === 0
      ? ""
      : `${(cost.subspace / 1e12).toFixed(1)} T in subspace iterations (${rate(probe?.compute?.subspace)} measured), `;
  return {
    seconds: copies * copying.seconds + own + (cost.passTokens > 0 ? time.pass(cost.passTokens, "forward") : 0),
    teacherSeconds: 0,
    peakMemoryBytes: streaming + cost.workingBytes,
    assumption:
      `${compress.method}: ${((cost.float32 + cost.float64) / 1e12).toFixed(1)} T operations in products (float32 ${rate(probe?.compute?.float32)}, ` +
      `float64 ${rate(probe?.compute?.float64)} measured), ${subspace}${(cost.plain / 1e9).toFixed(1)} G in plain code (${rate(probe?.compute?.plain)} measured), ` +
      `${cost.passTokens} tokens forward; ${copies === 2 ? "staged, then " : ""}${copying.assumption}`,
  };
}

async function planFor(context: StageContext, model: OpenModel): Promise<CompressionPlan> {
  const { paths, run, signal, report } = context;
  const options = run.recipe.compress!;
  if (paths.plan !== null) {
    const plan = parsePlan(await readPlanText(paths.plan), quote(paths.plan), options);
    validatePlan(plan, model.description, model.fingerprint);
    return plan;
  }
  if (!isPruningCriterion(options.method)) return makePlan(await methodContext(context, model, true));
  const weightScores =
    options.method === "aimer" ? await aimerScores(model.checkpoint, model.description, { signal, report }) : null;
  const statistics = needsStatistics(options) ? await loadRoutingStatistics(paths.file("statistics")) : null;
  const request = { ...model, options, seed: run.recipe.seed, statistics, weightScores };
  return runsText(options) ? evolvedPlan(await methodContext(context, model, true), request) : makePruningPlan(request);
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
