import { join } from "node:path";
import { readJson } from "./tokenizerFiles";

/**
 * Special tokens that the checkpoint's tokenizer puts before a text by itself (the beginning-of-text token of Llama and
 * others): those before the sequence in the template of tokenizer.json's post-processor. Texts of chat templates hold
 * theirs already.
 *
 * @throws RerouteError `data/tokenizer`
 */
export async function leadingTokens(directory: string): Promise<number[]> {
  const file = await readJson(join(directory, "tokenizer.json"));
  return processors(file?.post_processor).flatMap((processor) => {
    if (processor.type !== "TemplateProcessing" || !Array.isArray(processor.single)) return [];
    const pieces = processor.single as { SpecialToken?: { id?: unknown } }[];
    const sequence = pieces.findIndex((piece) => "Sequence" in piece);
    return pieces.slice(0, Math.max(0, sequence)).flatMap(({ SpecialToken }) => {
      const token = processor.special_tokens?.[String(SpecialToken?.id)];
      return (token?.ids ?? []).filter((id) => Number.isSafeInteger(id) && id >= 0);
    });
  });
}

interface Processor {
  type?: unknown;
  single?: unknown;
  special_tokens?: { [token: string]: { ids?: number[] } | undefined };
}

/** A post-processor, or those of a sequence of them. */
function processors(value: unknown): Processor[] {
  if (typeof value !== "object" || value === null) return [];
  const { type, processors: several } = value as { type?: unknown; processors?: unknown };
  return type === "Sequence" && Array.isArray(several) ? (several as Processor[]) : [value];
}
