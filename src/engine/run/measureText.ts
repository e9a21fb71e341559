import { countSequences } from "../data/countSequences";
import { ModelCache } from "./modelCache";

/** Those of the published recipe, 3,000 sequences of 512; a text is not read further. */
const mostTokens = 3000 * 512;

/**
 * Tokens of a text by a checkpoint's tokenizer, at most {@link mostTokens}: the first hundred thousand are counted, those behind
 * them estimated at their rate of tokens a character.
 * @throws what openModel and countSequences raise
 */
export async function measureText(directory: string, path: string, signal: AbortSignal): Promise<number> {
  const models = new ModelCache();
  const { vocabSize } = (await models.model(directory)).description;
  const { tokens } = await countSequences({
    ...{ path, ...models.textReaders(directory), vocabSize, signal },
    ...{ sequences: mostTokens, sequenceLength: 1, packing: "packed" },
  });
  return Math.min(tokens, mostTokens);
}
