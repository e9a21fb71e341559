import path from "node:path";
import type { Provenance, TrainedText } from "../../protocol/provenance";
import { recipeSchema } from "../../protocol/recipe";
import { RerouteError } from "../../protocol/errors";
import { quote } from "../checkpoint/quote";
import { sharedText, type SharedText, type TextPart } from "../data/sharedText";
import { hashTextFiles } from "../data/textFiles";
import { readProvenance } from "./stages/outputs";

/** What an evaluation text has in common with one that a checkpoint was trained on. */
export interface TrainedOn {
  training: string;
  /** Null where the training text is gone, so that only its hash could be compared. */
  found: SharedText | null;
}

/**
 * Compares an evaluation text with every text that a checkpoint says it was trained on (reroute.json). A checkpoint that says
 * nothing of it has none.
 *
 * @throws what sharedText raises for the evaluation text
 */
export async function trainedOnBy(directory: string, evaluation: TextPart, signal?: AbortSignal): Promise<TrainedOn[]> {
  const results: TrainedOn[] = [];
  for (const text of textsOf(await readProvenance(directory), directory)) {
    results.push({ training: text.path, found: await compare(evaluation, text, signal) });
  }
  return results;
}

/** Whether a text was trained on, in words; null where nothing was found. */
export function describeTrainedOn(
  evaluation: string,
  training: string,
  { kind, ...shared }: SharedText,
): string | null {
  const what = {
    "same file": `is the calibration text itself`,
    "same content": `has the same content as the calibration text ${quote(training)}`,
    "shared passages": `has ${shared.shared} of its ${shared.passages} passages in common with the calibration text ${quote(training)}`,
    nothing: null,
  }[kind];
  return what === null ? null : `The evaluation text ${quote(evaluation)} ${what}`;
}

/** The refusal of text that was trained on. */
export function refusedAsTrainedOn(message: string): RerouteError {
  return new RerouteError(
    "data/trained-on",
    `${message}; what is measured on it says nothing about new text. Choose another text, or use --force to go on`,
  );
}

/** Where the training text cannot be compared. */
export function describeGone(training: string): string {
  return `The calibration text ${quote(training)} is not there any more: whether the evaluation text was trained on cannot be told`;
}

/** Largest share of the evaluation text that was found in one of them; 0 where none was. */
export function shareOf(results: readonly TrainedOn[]): number {
  return Math.max(0, ...results.map(({ found }) => (found && found.passages > 0 ? found.shared / found.passages : 0)));
}

async function compare(evaluation: TextPart, { sha256, ...training }: TrainedText, signal?: AbortSignal) {
  try {
    return await sharedText(evaluation, training, signal);
  } catch (error) {
    if (!(error instanceof RerouteError) || !error.code.startsWith("data/")) throw error;
    // What the evaluation text cannot be read for is raised here, too.
    const all = await sharedText(evaluation, evaluation, signal);
    const isSame = sha256 !== null && sha256 === (await hashTextFiles(evaluation.path, signal));
    return isSame ? { ...all, kind: "same content" as const } : null;
  }
}

/** Those recorded; of a checkpoint of version 0.1, the calibration text of its recipe. */
function textsOf(provenance: Provenance | null, directory: string): TrainedText[] {
  if (provenance?.trainedOn) return provenance.trainedOn;
  if (provenance?.kind !== "calibrated") return [];
  const recipe = recipeSchema.safeParse(provenance.recipe).data;
  if (!recipe?.calibrate) return [];
  const { calibration, column, sequences, sequenceLength, packing } = recipe.data;
  const base = baseFolderOf(directory, recipe.output);
  if (base === null && !path.isAbsolute(calibration)) return [];
  const file = path.resolve(base ?? "", calibration);
  return [
    { path: file, sha256: null, ...(column === undefined ? {} : { column }), sequences, sequenceLength, packing },
  ];
}

/** The folder that a recipe's paths start from, by where its output lies; null where that does not say. */
function baseFolderOf(directory: string, output: string): string | null {
  const end = path.sep + path.normalize(output);
  return !path.isAbsolute(output) && directory.endsWith(end) ? directory.slice(0, -end.length) : null;
}
