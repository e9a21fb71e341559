import { buildSequences } from "../../data/buildSequences";
import type { TokenSequences } from "../../data/sequences";
import { heldOutCount, sequencesBehind } from "../../data/heldOutSplit";
import type { TextPart } from "../../data/sharedText";
import { hashTextFiles } from "../../data/textFiles";
import { namedStudent } from "../../../protocol/denseStudent";
import type { TrainedText } from "../../../protocol/provenance";
import type { Recipe } from "../../../protocol/recipe";
import type { RunPaths } from "../folder/runFolder";
import type { StageContext } from "./stage";

/**
 * The recipe's sequences of a text, built once a run: what a stage's inputs name (`textRead`) is what the stage then reads.
 */
export async function sequencesOf(context: StageContext, path: string, sequences: number): Promise<TokenSequences> {
  const { models, signal } = context;
  const { sequenceLength, packing, column } = context.run.recipe.data;
  return models.sequences(`${sequences} ${path}`, async () => {
    const { vocabSize } = (await models.model(context.paths.teacher)).description;
    const readers = models.textReaders(context.paths.tokenizer);
    const notes: string[] = [];
    const onNote = (note: string): unknown => notes.push(note);
    const text = { path, column, ...readers, onNote, vocabSize, sequences, sequenceLength, packing, signal };
    const built = await buildSequences(text);
    for (const note of notes) await context.warn(note);
    return built;
  });
}

/** Calibration sequences that come before those of an evaluation that is split off: trained on, held out, and spare ones. */
export function sequencesBeforeSplit({ data, calibrate }: Pick<Recipe, "data" | "calibrate">): number {
  const { sequences } = data;
  return sequences + (calibrate ? 2 * heldOutCount(sequences, calibrate.heldOut, calibrate.maxHeldOut) : 0);
}

/** The sequences that a run is measured on: those of the evaluation text, or those split off the calibration text. */
export async function evaluationSequencesOf(context: StageContext, says = false): Promise<TokenSequences> {
  const { recipe } = context.run;
  const { evaluationSequences, splitEvaluation } = recipe.data;
  const file = context.paths.evaluationData!;
  const read = (count: number) => (says ? readSequences(context, file, count) : sequencesOf(context, file, count));
  if (!splitEvaluation) return read(evaluationSequences);
  const before = sequencesBeforeSplit(recipe);
  const { behind, sharesDocument } = sequencesBehind(
    await read(before + evaluationSequences),
    before,
    evaluationSequences,
  );
  if (says && sharesDocument)
    await context.warn("The split-off evaluation text begins inside a document that was trained on");
  return behind;
}

/** The parts of the evaluation text and of the calibration text that a run reads; there is an evaluation text. */
export function textParts({ data, calibrate }: Recipe, paths: RunPaths): [evaluation: TextPart, training: TextPart] {
  const { sequences, evaluationSequences, sequenceLength, packing, column } = data;
  const read = sequences + (calibrate ? heldOutCount(sequences, calibrate.heldOut, calibrate.maxHeldOut) : 0);
  return [
    { path: paths.evaluationData!, column, sequences: evaluationSequences, sequenceLength, packing },
    { path: paths.calibrationData, column, sequences: read, sequenceLength, packing },
  ];
}

/** A checkpoint that a run is given and measures, which may have been trained before; null where it measures none. */
export function measuredBefore({ compress, calibrate, student, source }: Recipe, paths: RunPaths): string | null {
  if (namedStudent({ student }) !== undefined) return paths.student;
  if (source !== undefined) return paths.source;
  return compress === undefined && calibrate === undefined && student === undefined ? paths.teacher : null;
}

/** The calibration text as reroute.json records it. */
export async function textTrainedOn({ run, paths, signal }: StageContext): Promise<TrainedText> {
  const [, { path, column, ...read }] = textParts(run.recipe, paths);
  const sha256 = await hashTextFiles(path, signal);
  return { path, sha256, ...(column === undefined ? {} : { column }), ...read };
}

/**
 * The same for a stage that works on them; says so where the text has fewer.
 * @param spare sequences that are read beside them where there are any
 */
export async function readSequences(
  context: StageContext,
  path: string,
  sequences: number,
  spare = 0,
): Promise<TokenSequences> {
  const built = await sequencesOf(context, path, sequences + spare);
  if (built.numSequences < sequences) {
    await context.warn(
      `${path} has text for ${built.numSequences} of the ${sequences} sequences of ${built.sequenceLength} tokens asked for`,
    );
  }
  return built;
}
