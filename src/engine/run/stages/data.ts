import { buildSequences } from "../../data/buildSequences";
import type { TokenSequences } from "../../data/sequences";
import type { StageContext } from "./stage";

/**
 * The recipe's sequences of a text, built once a run: what a stage's inputs name (`textRead`) is what the stage then reads.
 */
export async function sequencesOf(context: StageContext, path: string, sequences: number): Promise<TokenSequences> {
  const { models, signal } = context;
  const { sequenceLength, packing } = context.run.recipe.data;
  return models.sequences(`${sequences} ${path}`, async () => {
    const { vocabSize } = (await models.model(context.paths.teacher)).description;
    const tokenizer = await models.tokenizer(context.paths.teacher);
    return buildSequences({ path, tokenizer, vocabSize, sequences, sequenceLength, packing, signal });
  });
}

/** The same for a stage that works on them; says so where the text has fewer. */
export async function readSequences(context: StageContext, path: string, sequences: number): Promise<TokenSequences> {
  const built = await sequencesOf(context, path, sequences);
  if (built.numSequences < sequences) {
    await context.warn(
      `${path} has text for ${built.numSequences} of the ${sequences} sequences of ${built.sequenceLength} tokens asked for`,
    );
  }
  return built;
}
