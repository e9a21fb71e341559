import { forecastOf } from "../../compression/methods";
import { smallestBudget } from "../../execution/memoryPlan";
import type { ModelDescription } from "../../model/description";
import { planDecoding } from "../../generation/decodingPlan";
import { modelsAtOnce } from "../../distillation/besideStudent";
import { teacherRoutes } from "../../distillation/teacherRouting";
import type { TrainedPrediction } from "../../distillation/trainedPrediction";
import type { Recipe } from "../../../protocol/recipe";
import { stageIds, type StageId } from "../../../protocol/run";
import { stagesOf } from "../folder/runFolder";
import { stageTable } from "../stages";
import { fitBytes } from "../stages/calibrate";
import { learnerOf, type ScratchInput, type StageForecast } from "../stages/forecast";
import { onSource, stageTimes, type EstimateInput } from "./stageTimes";

const stages = stageTable(() => Promise.resolve());

export type StageEstimate = StageForecast & { stage: StageId };

/** Time and memory of each stage that the recipe asks for, with the assumption behind it in words. */
export function estimateStages(input: EstimateInput): StageEstimate[] {
  // Allocators keep most of what a stage gave back, so that a small stage after a large one holds as much (measured: 95 %).
  let largest = 0;
  return estimateAlone(input).map((estimate) => {
    largest = Math.max(largest, estimate.peakMemoryBytes);
    return { ...estimate, peakMemoryBytes: largest };
  });
}

/** A stage whose predicted peak is beyond the budget, with the budget that would do and the option that needs less. */
export interface BeyondBudget {
  stage: StageId;
  peakMemoryBytes: number;
  fittingBudgetBytes: number;
  /** An option of the compression method with which the stage fits; null where none does. */
  option: string | null;
}

/** The first of the stages in `open` that would need more memory than it may. */
export function stageBeyondBudget(input: EstimateInput, open: ReadonlySet<StageId>): BeyondBudget | null {
  const peakOf = (change: Partial<EstimateInput>, stage: StageId) =>
    estimateAlone({ ...input, ...change }).find((estimate) => estimate.stage === stage)!.peakMemoryBytes;
  const { memoryBudgetBytes, recipe } = input;
  const beyond = estimateAlone(input).find(
    ({ stage, peakMemoryBytes }) => open.has(stage) && peakMemoryBytes > memoryBudgetBytes,
  );
  if (!beyond) return null;
  const { stage, peakMemoryBytes } = beyond;
  // A larger budget is used, too: a few rounds settle it.
  let fitting = peakMemoryBytes;
  for (let round = 0; round < 30 && peakOf({ memoryBudgetBytes: fitting }, stage) > fitting; round++)
    fitting = Math.ceil(1.02 * peakOf({ memoryBudgetBytes: fitting }, stage));
  const { compress } = recipe;
  const lighter = stage === "compress" && compress ? (forecastOf(compress.method).lighter ?? []) : [];
  const option = lighter.find((change) => {
    const changed = { ...recipe, compress: { ...compress!, options: { ...compress!.options, ...change } } };
    return peakOf({ recipe: changed }, stage) <= memoryBudgetBytes;
  });
  const named = option ? Object.entries(option).map(([name, value]) => `${name}=${value}`) : null;
  return { stage, peakMemoryBytes, fittingBudgetBytes: fitting, option: named && named.join(" ") };
}

/** Asks each stage, as if it were alone in its process. */
function estimateAlone(input: EstimateInput): StageEstimate[] {
  const told = (of: EstimateInput) => {
    const time = stageTimes(of);
    return { ...of, time, measured: `${of.probe?.assumption ?? "time unknown: not measured"}${time.coldReads}` };
  };
  const [whole, source] = [told(input), told(onSource(input))];
  const wanted = stagesOf(input.recipe);
  // Where nothing was measured no time is known, not the few seconds either that no measurement is needed for.
  const finiteOrZero = (value: number) => (input.probe !== null && Number.isFinite(value) ? value : 0);
  return stageIds
    .filter((stage) => wanted.has(stage))
    .map((stage) => {
      const asked = stage === "profile" || stage === "compress" ? source : whole;
      const { seconds, teacherSeconds, peakMemoryBytes, assumption, spread = [] } = stages[stage].forecast(asked);
      return {
        stage,
        seconds: finiteOrZero(seconds),
        teacherSeconds: finiteOrZero(teacherSeconds),
        peakMemoryBytes,
        assumption,
        ...(spread.length > 0 && spread.every((share) => Number.isFinite(share.seconds)) ? { spread } : {}),
      };
    });
}

/** Responses that are to be written once a run is done, each of at most so many tokens. */
export interface ResponsesWanted {
  /** Those that are written together, where they fit. */
  sequences: number;
  tokens: number;
  /** How many times. */
  seeds: number;
}

/** Seconds of writing responses, as long as they may be, to prompts as long as they; 0 where nothing was measured. */
export function responseSeconds(input: EstimateInput, { sequences, tokens, seeds }: ResponsesWanted): number {
  const { rows } = planDecoding(learnerOf(input), input.memoryBudgetBytes, 2 * tokens, sequences);
  const batches = Math.ceil(sequences / rows);
  const seconds = seeds * batches * tokens * stageTimes(input).step(sequences / batches);
  return Number.isFinite(seconds) ? seconds : 0;
}

/** The smallest budget that the recipe's widest stage fits in, one sequence at a time. */
export function smallestMemory(
  recipe: Recipe,
  description: ModelDescription,
  trained: TrainedPrediction | null = null,
  student: ModelDescription = description,
): number {
  const { calibrate, data } = recipe;
  const smallest = (model: ModelDescription, sizes?: TrainedPrediction["sizes"]) =>
    smallestBudget(model, data.sequenceLength, calibrate ? "backward" : "forward", sizes);
  const ofStudent = smallest(student, trained?.sizes) + fitBytes(recipe, description);
  if (!calibrate || modelsAtOnce(calibrate) === 1)
    return Math.max(
      ofStudent,
      student === description ? 0 : smallestBudget(description, data.sequenceLength, "forward"),
    );
  // Each has its part.
  const [{ description: routed }] = teacherRoutes(calibrate.teacherRouting, description, recipe.seed);
  return modelsAtOnce(calibrate) * Math.max(ofStudent, smallest(routed));
}

/** Bytes on disk beside all results: what stages keep, and the most that one of them spills while it works. */
export function scratchBytes(input: ScratchInput): number {
  const wanted = stagesOf(input.recipe);
  const scratch = stageIds.filter((id) => wanted.has(id)).map((id) => stages[id].scratch(input));
  return scratch.reduce((sum, { kept }) => sum + kept, 0) + Math.max(0, ...scratch.map(({ spilled }) => spilled));
}
