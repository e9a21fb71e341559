import { freeDiskBytes } from "../../checkpoint/diskSpace";
import { hubModelMissing } from "../../checkpoint/hubCache";
import { quote } from "../../checkpoint/quote";
import { layoutNeedsOf, layoutNeedsOfPlan, validateLayout } from "../../compression/plan/validateLayout";
import { parsePlan, validatePlan } from "../../compression/plan/validatePlan";
import { checkMethodOptions } from "../../compression/methods";
import { expertMapping } from "../../compression/plan/expertMapping";
import { matchesRouterLogits } from "../../distillation/calibration";
import { matchMapping } from "../../distillation/match/matchMapping";
import { logitMapping } from "../../distillation/routerLogits";
import { isPruningCriterion, pruningCriteria } from "../../compression/pruning/criteria";
import { hasExperts, requireExperts } from "../../model/requireExperts";
import { RerouteError, throwIfCancelled } from "../../../protocol/errors";
import { paradigmOf, type Recipe } from "../../../protocol/recipe";
import type { Preflight, RunFile, StageId } from "../../../protocol/run";
import { estimateStages, scratchBytes, smallestMemory, stageBeyondBudget } from "./estimates";
import type { EstimateInput } from "./stageTimes";
import { checkTexts } from "./texts";
import { checkScales } from "../../model/quantisation/checkScales";
import { availableMemoryBytes, runtimeOf } from "../machine/machine";
import { prepareProvider, requireProvider } from "../machine/providerChoice";
import { expectedProfile, withoutProfile } from "../knownProfile";
import { ModelCache } from "../modelCache";
import { outputRefusal } from "./output";
import { quantisedOutput } from "./quantisedOutput";
import { fittingWarnings, routingWarnings } from "./routingWarnings";
import { previewText } from "./textPreview";
import { runPaths, stagesOf, type RunPaths } from "../folder/runFolder";
import { checkpointSize, compressedSize, plannedSize, type CheckpointSize } from "../../compression/plannedSize";
import { readPlanText } from "../stages/compress";
import { readProvenance } from "../stages/outputs";
import { checkDenseStudent } from "../stages/calibrate";
import { trainedOnWarnings } from "./trainedOn";
import { predictTrained, type TrainedPrediction } from "../../distillation/trainedPrediction";
import type { MachineProbe, OpenModel } from "../work";

export interface PreflightOptions {
  /** Folder of the run; where temporary files and the compressed student go. */
  runDirectory: string;
  /** A run that is being continued: its own outputs do not count as in the way. */
  run?: RunFile;
  /** Measures this machine; left out, times are 0 and their assumption says so. */
  probe?: (model: OpenModel, sequenceLength: number) => Promise<MachineProbe>;
  force?: boolean;
  /** Also gives the first sequences of the texts. */
  showsText?: boolean;
  signal?: AbortSignal;
}

/**
 * What a run would need and do, without doing it: sizes from headers, disk, memory, time from a short measurement, and
 * everything that would be refused, each with its code. Throws only on cancellation and defects.
 */
export async function preflight(recipe: Recipe, baseFolder: string, options: PreflightOptions): Promise<Preflight> {
  const check = new Preflighter(recipe, await runPaths(options.runDirectory, recipe, baseFolder), options);
  return check.result();
}

/** Throws the first refusal of a pre-flight. */
export function throwRefusal({ refusals }: Preflight): void {
  const first = refusals[0];
  if (first) throw new RerouteError(first.code as RerouteError["code"], first.message);
}

class Preflighter {
  readonly #refusals: Preflight["refusals"] = [];
  readonly #warnings: string[] = [];
  readonly #models = new ModelCache();

  constructor(
    readonly recipe: Recipe,
    readonly paths: RunPaths,
    readonly options: PreflightOptions,
  ) {}

  async result(): Promise<Preflight> {
    const { recipe, paths } = this;
    await prepareProvider(recipe.provider);
    const { memoryBudgetBytes, provider } = runtimeOf({ runtime: this.options.run?.runtime ?? null, recipe });
    await this.#try(() => requireProvider(provider));
    const teacher = await this.#try(async () => {
      const model = await this.#open(recipe.teacher, paths.teacher);
      requireExperts(model.description, "profile, compress or calibrate");
      await checkScales(model, this.options.signal);
      return model;
    });
    await this.#checkRecipe();
    await this.#checkTexts(teacher);
    await this.#checkTrainedOn();
    await this.#checkOutput();
    if (teacher) {
      this.#checkRouting(teacher);
      const { max_position_embeddings: positions } = teacher.checkpoint.config;
      const fitting = this.#try(async () => fittingWarnings(recipe, teacher.description, positions));
      this.#warnings.push(...((await fitting) ?? []));
    }
    const none: CheckpointSize = { parameters: 0, bytes: 0 };
    const before = teacher ? checkpointSize(teacher.checkpoint) : none;
    const after = teacher ? ((await this.#try(() => this.#sizeAfter(teacher))) ?? none) : none;
    const trained = teacher ? await this.#try(() => this.#trained(teacher)) : null;
    const probe = teacher && this.#refusals.length === 0 ? await this.#probe(teacher) : null;
    const input = teacher && {
      recipe,
      teacher: teacher.description,
      probe,
      memoryBudgetBytes,
      bytesBefore: before.bytes,
      bytesAfter: after.bytes,
      cacheBytes: Math.max(0, availableMemoryBytes() - memoryBudgetBytes),
      trained,
    };
    // An impossible recipe has been refused by then; it has no times.
    const estimated = input ? ((await this.#try(async () => estimateStages(input))) ?? []) : [];
    const profileOf = estimated.length > 0 && teacher ? await this.#knownProfile(teacher) : null;
    const stages = profileOf ? estimated.map((stage) => withoutProfile(stage, profileOf.name)) : estimated;
    const disk = await this.#checkDisk(teacher, after.bytes, trained, memoryBudgetBytes);
    if (input) this.#checkMemory(input, stages.length > 0);
    this.#warnOfLessMemory(memoryBudgetBytes);
    const { showsText, signal } = this.options;
    const texts =
      showsText && teacher ? await this.#try(() => previewText(recipe, paths, teacher, this.#models, signal)) : null;
    throwIfCancelled(signal);
    return {
      parametersBefore: before.parameters,
      parametersAfter: after.parameters,
      bytesBefore: before.bytes,
      bytesAfter: after.bytes,
      ...disk,
      peakMemoryBytes: stages.reduce((most, stage) => Math.max(most, stage.peakMemoryBytes), 0),
      memoryBudgetBytes,
      provider,
      stages,
      seconds: stages.reduce((sum, { seconds }) => sum + seconds, 0),
      ...(profileOf ? { profileOf } : {}),
      trained: trained && { scope: trained.scope, parameters: trained.parameters, tensors: trained.tensors },
      ...(texts ? { texts } : {}),
      refusals: this.#refusals,
      warnings: this.#warnings,
    };
  }

  /** Another run's profile, which this one takes over instead of making its own. */
  #knownProfile({ description }: OpenModel) {
    if (!this.#openStages().has("profile") || this.#refusals.length > 0) return null;
    const runtime = runtimeOf({ runtime: this.options.run?.runtime ?? null, recipe: this.recipe });
    return this.#try(() => expectedProfile(this.recipe, this.paths, runtime, description));
  }

  /** A checkpoint that the recipe names by a path, or by its name in the Hugging Face cache. */
  #open(written: string, found: string): Promise<OpenModel> {
    const missing = hubModelMissing(written, found);
    if (missing !== null) throw new RerouteError("checkpoint/not-found", missing);
    return this.#models.model(found);
  }

  async #checkRecipe(): Promise<void> {
    const { compress, calibrate, student, data } = this.recipe;
    if (data.splitEvaluation && data.evaluation !== undefined) {
      this.#refuse("recipe/invalid", "The recipe names an evaluation text and splits one off; keep one of both");
    }
    if (calibrate && !compress && student === undefined) {
      this.#refuse(
        "recipe/invalid",
        "The recipe calibrates, but names neither a student nor how to compress the teacher; add one of both",
      );
    }
    if (compress && compress.plan === undefined && student === undefined) {
      await this.#try(async () => checkMethodOptions(compress));
    }
  }

  #checkRouting({ description }: OpenModel): void {
    const { compress } = this.recipe;
    this.#warnings.push(...routingWarnings(this.recipe, description));
    if (compress?.groupLimits === "drop" && compress.plan === undefined && !isPruningCriterion(compress.method)) {
      this.#refuse(
        "arguments/invalid",
        `The method ${compress.method} does not drop group limits; use ${Object.keys(pruningCriteria).join(", ")}, or keep the limits`,
      );
    }
  }

  /** Stages that are wanted and, of a run that goes on, not done. */
  #openStages(): Set<StageId> {
    const isDone = (id: StageId) => this.options.run?.stages.find((stage) => stage.id === id)?.state === "done";
    return new Set([...stagesOf(this.recipe)].filter((id) => !isDone(id)));
  }

  async #checkTexts(teacher: OpenModel | null): Promise<void> {
    const warnings = checkTexts(this.recipe, this.paths, teacher, {
      open: this.#openStages(),
      models: this.#models,
      signal: this.options.signal,
      attempt: (work) => this.#try(work),
    });
    this.#warnings.push(...(await warnings));
  }

  async #checkTrainedOn(): Promise<void> {
    if (!this.#openStages().has("evaluate") || this.#refusals.length > 0) return;
    const warnings = await this.#try(() => trainedOnWarnings(this.recipe, this.paths, this.options));
    this.#warnings.push(...(warnings ?? []));
  }

  async #checkOutput(): Promise<void> {
    const refusal = await outputRefusal(this.recipe, this.paths, this.options.run);
    if (refusal) this.#refuse(refusal.code, refusal.message);
  }

  async #sizeAfter(teacher: OpenModel): Promise<CheckpointSize> {
    const { recipe, paths } = this;
    if (recipe.student !== undefined) return this.#studentSize(teacher);
    if (!recipe.compress) return checkpointSize(teacher.checkpoint);
    if (paths.plan === null) {
      validateLayout(layoutNeedsOf(recipe.compress), teacher.description);
      this.#warnings.push(...quantisedOutput(recipe.compress, null, teacher.description));
      return compressedSize(teacher, recipe.compress);
    }
    const plan = parsePlan(await readPlanText(paths.plan), quote(paths.plan), recipe.compress);
    validatePlan(plan, teacher.description, teacher.fingerprint);
    validateLayout(layoutNeedsOfPlan(plan), teacher.description);
    this.#warnings.push(...quantisedOutput(recipe.compress, plan, teacher.description, this.options.force));
    return plannedSize(teacher, plan);
  }

  async #studentSize(teacher: OpenModel): Promise<CheckpointSize> {
    const student = await this.#open(this.recipe.student!, this.paths.student);
    await checkScales(student, this.options.signal);
    if (!hasExperts(student.description)) {
      await checkDenseStudent(student, teacher);
      return checkpointSize(student.checkpoint);
    }
    if (student.description.vocabSize !== teacher.description.vocabSize) {
      this.#refuse(
        "teacher/mismatch",
        `The student's vocabulary has ${student.description.vocabSize} entries, the teacher's ${teacher.description.vocabSize}; choose the model that the student was made from`,
      );
    }
    const origin = (await readProvenance(student.checkpoint.directory))?.teacher;
    if (origin && origin.fingerprint !== teacher.fingerprint) {
      const message = `The student says it was made from ${quote(origin.path)}, which is not this teacher`;
      if (this.options.force) this.#warnings.push(message);
      else this.#refuse("teacher/mismatch", `${message}; choose that teacher, or use --force to go on`);
    }
    return checkpointSize(student.checkpoint);
  }

  async #trained(teacher: OpenModel): Promise<TrainedPrediction | null> {
    const { recipe, paths } = this;
    const student = recipe.student === undefined ? null : await this.#open(recipe.student, paths.student);
    const plan =
      student === null && paths.plan !== null && recipe.compress
        ? parsePlan(await readPlanText(paths.plan), quote(paths.plan), recipe.compress)
        : null;
    const predicted = predictTrained(recipe, teacher.description, student?.description ?? null, plan);
    if (student && recipe.calibrate && (matchesRouterLogits(recipe.calibrate) || recipe.calibrate.match)) {
      const studentPlan = (await readProvenance(student.checkpoint.directory))?.plan ?? null;
      const [mine, theirs, experts] = [
        student.description,
        teacher.description,
        expertMapping(teacher.description, studentPlan),
      ];
      if (matchesRouterLogits(recipe.calibrate)) logitMapping(mine, theirs, experts);
      if (recipe.calibrate.match) matchMapping(mine, theirs, recipe.calibrate.match, experts);
    }
    return predicted;
  }

  async #checkDisk(
    teacher: OpenModel | null,
    bytesAfter: number,
    trained: TrainedPrediction | null,
    memoryBudgetBytes: number,
  ): Promise<{ diskNeededBytes: number; diskFreeBytes: number }> {
    const { recipe, paths } = this;
    const compresses = recipe.compress !== undefined && recipe.student === undefined;
    // The compressed student lies in the run folder while it is calibrated; the result goes to the output folder.
    const isDone = (id: string): boolean => this.options.run?.stages.find((stage) => stage.id === id)?.state === "done";
    // Merging and editing stage their layers beside it.
    const compressed = paradigmOf(recipe.compress?.method ?? "reap") === "pruning" ? 1 : 2;
    const copies =
      (compresses && !isDone("compress") ? compressed : 0) + (recipe.calibrate && !isDone("calibrate") ? 1 : 0);
    const scratch = teacher ? scratchBytes({ recipe, teacher: teacher.description, memoryBudgetBytes, trained }) : 0;
    const diskNeededBytes = copies * bytesAfter + scratch;
    const free = [await freeDiskBytes(paths.output), await freeDiskBytes(paths.runDirectory)];
    const diskFreeBytes = Math.min(...free);
    if (diskNeededBytes > diskFreeBytes) {
      this.#refuse(
        "preflight/disk",
        `The run writes ${formatGiB(diskNeededBytes)}, but only ${formatGiB(diskFreeBytes)} are free where it would write; free some space or choose another disk`,
      );
    }
    return { diskNeededBytes, diskFreeBytes };
  }

  #checkMemory(input: EstimateInput, hasEstimates: boolean): void {
    const { recipe, teacher, trained, memoryBudgetBytes: budget } = input;
    const smallest = smallestMemory(recipe, teacher, trained);
    const atLeast = (bytes: number) => `set at least --memory ${Math.ceil(bytes / 2 ** 20)}MiB`;
    if (smallest > budget) {
      const what = trained?.sizes
        ? `training ${trained.parameters} numbers (scope ${trained.scope}: weights, gradients, moments and best step, f32)`
        : "one layer of this model";
      this.#refuse(
        "preflight/memory",
        `The memory budget is ${formatGiB(budget)}, ${what} needs ${formatGiB(smallest)}; ${atLeast(smallest)}`,
      );
      return;
    }
    const beyond = hasEstimates ? stageBeyondBudget(input, this.#openStages()) : null;
    if (!beyond) return;
    const { stage, peakMemoryBytes, fittingBudgetBytes, option } = beyond;
    const what = stage === "compress" ? `compressing by ${recipe.compress!.method}` : `stage ${stage}`;
    const lighter = option === null ? "" : `use the option ${option} (--set ${option}), with which it fits, or `;
    this.#refuse(
      "preflight/memory",
      `The memory budget is ${formatGiB(budget)}, ${what} needs ${formatGiB(peakMemoryBytes)} at its peak; ${lighter}${atLeast(fittingBudgetBytes)}`,
    );
  }

  /** A run keeps the budget it began with, which this machine may no longer have. */
  #warnOfLessMemory(budget: number): void {
    const available = availableMemoryBytes();
    if (budget <= available) return;
    this.#warnings.push(
      `The memory budget is ${formatGiB(budget)}, but only ${formatGiB(available)} are available now; the system may swap or end the run. "memory" in the recipe sets another budget`,
    );
  }

  async #probe(teacher: OpenModel): Promise<MachineProbe | null> {
    try {
      return (await this.options.probe?.(teacher, this.recipe.data.sequenceLength)) ?? null;
    } catch (error) {
      if (!(error instanceof RerouteError) || error.code === "cancelled") throw error;
      this.#refuse(error.code, error.message);
      return null;
    }
  }

  async #try<T>(work: () => Promise<T>): Promise<T | null> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof RerouteError) || error.code === "cancelled") throw error;
      this.#refuse(error.code, error.message);
      return null;
    }
  }

  #refuse(code: RerouteError["code"], message: string): void {
    if (this.#refusals.some((known) => known.message === message)) return;
    this.#refusals.push({ code, message });
  }
}

function formatGiB(bytes: number): string {
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
