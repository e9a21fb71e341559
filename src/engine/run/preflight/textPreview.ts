import type { TextPreview } from "../../../protocol/run";
import { buildSequences } from "../../data/buildSequences";
import { loadDecoder, type TokenDecoder } from "../../data/tokenizer";
import type { Recipe } from "../../../protocol/recipe";
import type { RunPaths } from "../folder/runFolder";
import type { ModelCache } from "../modelCache";
import type { OpenModel } from "../work";

/** Enough to see a template, a wrong column or lost line ends. */
const shownSequences = 2;
const shownCharacters = 400;

/**
 * The first sequences of a recipe's texts as text, with how many of their tokens count: special tokens do, padding does not.
 *
 * @throws what buildSequences raises
 */
export async function previewText(
  { data }: Recipe,
  paths: RunPaths,
  teacher: OpenModel,
  models: ModelCache,
  signal: AbortSignal | undefined,
): Promise<TextPreview[]> {
  const { sequenceLength, packing, column } = data;
  const texts: Pick<TextPreview, "role" | "path" | "wanted">[] = [
    { role: "calibration", path: paths.calibrationData, wanted: data.sequences },
  ];
  if (paths.evaluationData !== null)
    texts.push({ role: "evaluation", path: paths.evaluationData, wanted: data.evaluationSequences });
  // Ready token ids may come without a tokenizer; they are shown as numbers then.
  const decoder = await loadDecoder(paths.tokenizer).catch(() => null);
  const previews: TextPreview[] = [];
  for (const { role, path, wanted } of texts) {
    const notes: string[] = [];
    const built = await buildSequences({
      path,
      column,
      ...models.textReaders(paths.tokenizer),
      vocabSize: teacher.description.vocabSize,
      sequences: Math.min(shownSequences, wanted),
      sequenceLength,
      packing,
      signal,
      onNote: (note) => notes.push(note),
    });
    const sequences = Array.from({ length: built.numSequences }, (_, s) => {
      const from = s * sequenceLength;
      const ids = built.ids.subarray(from, from + built.lengths[s]!);
      const domains = new Set(built.domainIds.subarray(from, from + ids.length));
      return {
        ...shown(ids, decoder),
        tokens: ids.length,
        padding: sequenceLength - ids.length,
        domains: [...domains].map((domain) => built.domainNames[domain]!),
      };
    });
    previews.push({ role, path, wanted, sequences, notes });
  }
  return previews;
}

function shown(ids: Int32Array, decoder: TokenDecoder | null): { text: string; special: number } {
  // Almost every token is a character or more.
  const text = decoder === null ? `ids ${ids.slice(0, 40).join(" ")}` : decoder.decode(ids.slice(0, shownCharacters));
  const isCut = text.length > shownCharacters || ids.length > (decoder === null ? 40 : shownCharacters);
  return {
    text: `${text.slice(0, shownCharacters).replace(/\p{Surrogate}$/u, "")}${isCut ? "..." : ""}`,
    special: ids.filter((id) => decoder?.isSpecial(id) ?? false).length,
  };
}
