import { canHaveThreads } from "../../runtime/sideBySide/partThreads";
import { freeDiskBytes } from "../../checkpoint/diskSpace";
import { hubModelMissing } from "../../checkpoint/hubCache";
import { quote } from "../../checkpoint/quote";
import { layoutNeedsOf, layoutNeedsOfPlan, validateLayout } from "../../compression/plan/validateLayout";
import { readChoiceItems } from "../../data/choiceItems";
import { parsePlan, validatePlan } from "../../compression/plan/validatePlan";
import { forecastOf } from "../../compression/methods";
import { compressedDescription } from "../../compression/compressedDescription";
import { predictedModel, type PredictedModel } from "../../compression/predictedModel";
import { predictedDense } from "../../distillation/build/predictedDense";
import { withActiveExperts } from "../../model/activeExperts";
import { hasExperts, requireExperts } from "../../model/requireExperts";
import { withRoundedActivations } from "../../model/roundedActivations";
import { RerouteError, throwIfCancelled } from "../../../protocol/errors";
import { namedStudent, studentToBuild } from "../../../protocol/denseStudent";
import { evaluatedActivations, type Recipe } from "../../../protocol/recipe";
import { paradigmOf } from "../../../protocol/methods";
import type { Preflight, StageId } from "../../../protocol/run";
import { estimateStages, responseSeconds, scratchBytes } from "./estimates";
import { checkTexts } from "./texts";
import { checkScales } from "../../model/quantisation/checkScales";
import { availableMemoryBytes, runtimeOf } from "../machine/machine";
import { prepareProvider, requireProvider } from "../machine/providerChoice";
import { expectedProfile, withoutProfile } from "../knownProfile";
import { ModelCache } from "../modelCache";
import { outputRefusal } from "./output";
import { quantisedOutput } from "./quantisedOutput";
import { fittingWarnings, routingWarnings } from "./routingWarnings";
import { judgeRecipe } from "./judgeRecipe";
import { checkMatching } from "./matching";
import type { PreflightOptions } from "./options";
import { diskRefusal, lessMemory, memoryRefusal, previewRefusal } from "./refusals";
import { preflightSteps, type PredictedRun } from "./steps";
import { previewText } from "./textPreview";
import { runPaths, stagesOf, type RunPaths } from "../folder/runFolder";
import { checkpointSize, plannedSize, type CheckpointSize } from "../../compression/plannedSize";
import { readPlanText } from "../stages/compress";
import { readProvenance } from "../stages/outputs";
import { checkOwnTokenizer, checkTokenizers } from "../stages/calibrate";
import type { ScratchInput } from "../stages/forecast";
import { trainedOnWarnings } from "./trainedOn";
import { predictTrained, type TrainedPrediction } from "../../distillation/trainedPrediction";
import type { MachineProbe, OpenModel } from "../work";
export type { PreflightOptions } from "./options";

/**
 * What a run would need and do, without doing it: sizes from headers, disk, memory, time from a short measurement, and
 * everything that would be refused, each with its code. Throws only on cancellation and defects.
 */
export async function preflight(recipe: Recipe, baseFolder: string, options: PreflightOptions): Promise<Preflight> {
  if (recipe.steps) return preflightSteps(recipe, baseFolder, options, preflightRun);
  return (await preflightRun(recipe, baseFolder, options)).preflight;
}

/** One run, with the checkpoint that it will leave, as far as shapes tell; null where it is refused. */
async function preflightRun(recipe: Recipe, baseFolder: string, options: PreflightOptions): Promise<PredictedRun> {
  const check = new Preflighter(recipe, await runPaths(options.runDirectory, recipe, baseFolder), options);
  return { preflight: await check.result(), leaves: check.leaves, scratchBytes: check.scratchBytes };
}

class Preflighter {
  readonly #refusals: Preflight["refusals"] = [];
  readonly #warnings: string[] = [];
  readonly #models: ModelCache;
  /** The checkpoint that the run will leave; null before it is known. */
  leaves: PredictedModel | null = null;
  /** Of the disk that it needs, what it does not keep. */
  scratchBytes = 0;

  constructor(
    readonly recipe: Recipe,
    readonly paths: RunPaths,
    readonly options: PreflightOptions,
  ) {
    this.#models = new ModelCache(options.tokenizers);
  }

  async result(): Promise<Preflight> {
    const { recipe, paths } = this;
    await prepareProvider(recipe.provider);
    const { memoryBudgetBytes, provider, threads } = runtimeOf({
      runtime: this.options.run?.runtime ?? this.options.runtime ?? null,
      recipe,
    });
    const preview = previewRefusal(recipe, provider);
    if (preview) this.#refuse(preview.code, preview.message);
    else await this.#try(() => requireProvider(provider));
    const teacher = await this.#try(async () => {
      const model = await this.#open(recipe.teacher, paths.teacher);
      if (!recipe.evaluateOnly) requireExperts(model.description, "profile, compress or calibrate");
      await checkScales(model, this.options.signal);
      return model;
    });
    await this.#try(async () => judgeRecipe(recipe, (message) => this.#refuse("recipe/invalid", message)));
    if (teacher)
      await this.#try(async () => {
        for (const n of recipe.data.activeExperts ?? []) withActiveExperts(teacher.description, n);
      });
    await this.#checkTexts(teacher);
    await this.#checkTrainedOn();
    await this.#checkOutput();
    const source = teacher && (await this.#try(() => this.#source(teacher)));
    if (teacher && source) {
      this.#warnings.push(...routingWarnings(recipe, source.description));
      const { max_position_embeddings: positions } = teacher.checkpoint.config;
      const fitting = this.#try(async () => fittingWarnings(recipe, teacher.description, positions));
      this.#warnings.push(...((await fitting) ?? []));
    }
    const none: CheckpointSize = { parameters: 0, bytes: 0 };
    const before = teacher ? checkpointSize(teacher.checkpoint) : none;
    const after = teacher && source ? ((await this.#try(() => this.#sizeAfter(teacher, source))) ?? none) : none;
    const trained = teacher && source ? await this.#try(() => this.#trained(teacher, source)) : null;
    const dense = teacher && recipe.student !== undefined ? await this.#try(() => this.#student(teacher)) : null;
    const probe = teacher && this.#refusals.length === 0 ? await this.#probe(teacher) : null;
    const input = teacher && {
      recipe,
      teacher: teacher.description,
      probe,
      memoryBudgetBytes,
      partThreads: provider === "cpu" && threads > 1 && canHaveThreads() ? threads : 0,
      bytesBefore: before.bytes,
      bytesAfter: after.bytes,
      cacheBytes: Math.max(0, availableMemoryBytes() - memoryBudgetBytes),
      trained,
      ...(dense && !hasExperts(dense.description) ? { student: dense.description } : {}),
      ...(source && source !== teacher
        ? { source: { description: source.description, bytes: checkpointSize(source.checkpoint).bytes } }
        : {}),
    };
    // An impossible recipe has been refused by then; it has no times.
    const estimated = input ? ((await this.#try(async () => estimateStages(input))) ?? []) : [];
    const profileOf = estimated.length > 0 && source ? await this.#knownProfile(source) : null;
    const stages = profileOf ? estimated.map((stage) => withoutProfile(stage, profileOf.name)) : estimated;
    const disk = await this.#checkDisk(input, after.bytes);
    const beyond = input && memoryRefusal(input, stages.length > 0 ? this.#openStages() : null);
    if (beyond) this.#refuse(beyond.code, beyond.message);
    this.#warnings.push(...lessMemory(memoryBudgetBytes));
    const { showsText, signal, responses } = this.options;
    const answering = input && responses && stages.length > 0 ? responseSeconds(input, responses) : 0;
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
      seconds: stages.reduce((sum, { seconds }) => sum + seconds, answering),
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

  /** What is profiled and compressed: the teacher, unless the recipe names another source. */
  async #source(teacher: OpenModel): Promise<OpenModel> {
    const { source, student } = this.recipe;
    if (source === undefined) return teacher;
    if (student !== undefined)
      this.#refuse(
        "recipe/invalid",
        "The recipe names a source and a student; a source is compressed, a student is not",
      );
    const { predicted } = this.options;
    if (predicted?.closed !== undefined) throw new RerouteError("plan/invalid", predicted.closed);
    if (predicted) return predicted;
    const model = await this.#open(source, this.paths.source);
    requireExperts(model.description, "profile and compress");
    await checkScales(model, this.options.signal);
    await this.#checkOrigin(model, teacher, "source");
    return model;
  }

  /** Stages that are wanted and, of a run that goes on, not done. */
  #openStages(): Set<StageId> {
    const isDone = (id: StageId) => this.options.run?.stages.find((stage) => stage.id === id)?.state === "done";
    return new Set([...stagesOf(this.recipe)].filter((id) => !isDone(id)));
  }

  async #checkTexts(teacher: OpenModel | null): Promise<void> {
    if (this.options.skipsTexts) return;
    const { task } = this.paths;
    if (task !== null) await this.#try(() => readChoiceItems(task));
    const warnings = checkTexts(this.recipe, this.paths, teacher, {
      open: this.#openStages(),
      models: this.#models,
      signal: this.options.signal,
      attempt: (work) => this.#try(work),
    });
    this.#warnings.push(...(await warnings));
  }

  async #checkTrainedOn(): Promise<void> {
    if (this.options.skipsTexts || !this.#openStages().has("evaluate") || this.#refusals.length > 0) return;
    const warnings = await this.#try(() => trainedOnWarnings(this.recipe, this.paths, this.options));
    this.#warnings.push(...(warnings ?? []));
  }

  async #checkOutput(): Promise<void> {
    if (this.options.ownsOutput) return;
    const refusal = await outputRefusal(this.recipe, this.paths, this.options.run);
    if (refusal) this.#refuse(refusal.code, refusal.message);
  }

  async #sizeAfter(teacher: OpenModel, source: OpenModel): Promise<CheckpointSize> {
    const { recipe, paths } = this;
    const { compress } = recipe;
    if (recipe.student !== undefined) return this.#studentSize(teacher);
    if (!compress) return checkpointSize(source.checkpoint);
    const written = paths.plan === null ? null : parsePlan(await readPlanText(paths.plan), quote(paths.plan), compress);
    const isFor = this.options.predicted ? (written?.teacherFingerprint ?? "") : source.fingerprint;
    if (written) validatePlan(written, source.description, isFor);
    validateLayout(written ? layoutNeedsOfPlan(written) : layoutNeedsOf(compress), source.description);
    const plan = written ?? forecastOf(compress.method).anyPlan(source.description, compress);
    const size = plannedSize(source, plan);
    this.#warnings.push(...quantisedOutput(compress, written, source.description, this.options.force));
    this.leaves = predictedModel(source, plan, size, paths.student);
    return size;
  }

  async #student(teacher: OpenModel): Promise<OpenModel> {
    const { predicted, signal } = this.options;
    if (predicted) return predicted;
    const build = studentToBuild(this.recipe);
    if (build) return predictedDense(teacher, build, this.paths.student);
    const student = await this.#open(namedStudent(this.recipe)!, this.paths.student);
    await checkScales(student, signal);
    return student;
  }

  async #studentSize(teacher: OpenModel): Promise<CheckpointSize> {
    const student = await this.#student(teacher);
    const { predicted } = this.options;
    if (!hasExperts(student.description)) {
      // What is not written yet will have the teacher's tokenizer.
      if (!predicted && namedStudent(this.recipe) !== undefined) await checkTokenizers(student, teacher);
      this.leaves = { ...student, size: checkpointSize(student.checkpoint) };
      return this.leaves.size;
    }
    if (student.description.vocabSize !== teacher.description.vocabSize) {
      this.#refuse(
        "teacher/mismatch",
        `The student's vocabulary has ${student.description.vocabSize} entries, the teacher's ${teacher.description.vocabSize}; choose the model that the student was made from`,
      );
    }
    if (!predicted) await this.#checkOrigin(student, teacher, "student");
    const size = predicted?.size ?? checkpointSize(student.checkpoint);
    this.leaves = predicted ?? { ...student, size };
    return size;
  }

  async #checkOrigin(model: OpenModel, teacher: OpenModel, what: "source" | "student"): Promise<void> {
    const origin = (await readProvenance(model.checkpoint.directory))?.teacher;
    if (!origin) await checkOwnTokenizer(model, teacher);
    if (!origin || origin.fingerprint === teacher.fingerprint) return;
    const message = `The ${what} says it was made from ${quote(origin.path)}, which is not this teacher`;
    if (this.options.force) this.#warnings.push(message);
    else this.#refuse("teacher/mismatch", `${message}; choose that teacher, or use --force to go on`);
  }

  async #trained(teacher: OpenModel, source: OpenModel): Promise<TrainedPrediction | null> {
    const { recipe, paths } = this;
    const student = recipe.student === undefined ? null : await this.#student(teacher);
    withRoundedActivations(student ?? teacher, evaluatedActivations(recipe));
    const plan =
      student === null && paths.plan !== null && recipe.compress
        ? parsePlan(await readPlanText(paths.plan), quote(paths.plan), recipe.compress)
        : null;
    const compressed =
      source !== teacher && recipe.compress
        ? compressedDescription(source.description, recipe.compress, plan)
        : (student?.description ?? null);
    const trained = predictTrained(recipe, teacher.description, compressed, plan);
    const { predicted } = this.options;
    if (predicted?.closed !== undefined && trained && trained.scope !== "router")
      throw new RerouteError(
        "model/unsupported-option",
        `${predicted.closed}; routers alone (scope router) can be calibrated`,
      );
    if (student && !predicted) await checkMatching(recipe, student, teacher);
    return trained;
  }

  async #checkDisk(
    input: ScratchInput | null,
    bytesAfter: number,
  ): Promise<{ diskNeededBytes: number; diskFreeBytes: number }> {
    const { recipe, paths } = this;
    const compresses = stagesOf(recipe).has("compress");
    // The compressed student lies in the run folder while it is calibrated; the result goes to the output folder.
    const isDone = (id: string): boolean => this.options.run?.stages.find((stage) => stage.id === id)?.state === "done";
    // Merging and editing stage their layers beside it.
    const compressed = paradigmOf(recipe.compress?.method ?? "reap") === "pruning" ? 1 : 2;
    const copies =
      (compresses && !isDone("compress") ? compressed : 0) + (recipe.calibrate && !isDone("calibrate") ? 1 : 0);
    this.scratchBytes = input ? scratchBytes(input) : 0;
    const diskNeededBytes = copies * bytesAfter + this.scratchBytes;
    const free = [await freeDiskBytes(paths.output), await freeDiskBytes(paths.runDirectory)];
    const diskFreeBytes = Math.min(...free);
    const refusal = diskRefusal(diskNeededBytes, diskFreeBytes);
    if (refusal) this.#refuse(refusal.code, refusal.message);
    return { diskNeededBytes, diskFreeBytes };
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
