import { buildSequences } from "../../data/buildSequences";
import type { TokenSequences } from "../../data/sequences";
import { hashTextFiles } from "../../data/hashTextFiles";
import type { StageContext } from "./stage";

/** What of the data options decides which tokens are read; part of a stage's inputs. */
export async function dataInputs(context: StageContext, path: string, sequences: number): Promise<unknown> {
  const { sequenceLength, packing } = context.run.recipe.data;
  return { sha256: await hashTextFiles(path, context.signal), sequences, sequenceLength, packing };
}

/** The recipe's sequences of a text; says so where the text has fewer. */
export async function readSequences(context: StageContext, path: string, sequences: number): Promise<TokenSequences> {
  const { sequenceLength, packing } = context.run.recipe.data;
  const { description } = await context.models.model(context.paths.teacher);
  const tokenizer = await context.models.tokenizer(context.paths.teacher);
  const { vocabSize } = description;
  const built = await buildSequences({
    path,
    tokenizer,
    vocabSize,
    sequences,
    sequenceLength,
    packing,
    signal: context.signal,
  });
  if (built.numSequences < sequences) {
    await context.warn(
      `${path} has text for ${built.numSequences} of the ${sequences} sequences of ${sequenceLength} tokens asked for`,
    );
  }
  return built;
}
