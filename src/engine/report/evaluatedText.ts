import { readFile, stat } from "node:fs/promises";
import { evaluationTokensFile } from "../../protocol/evaluationTokens";
import type { EvaluatedText } from "../../protocol/panels";

/** 2048 tokens with four numbers each take some 100 kB. */
const maxBytes = 8 * 2 ** 20;

/** The first tokens of the evaluated text; null where there is no such file, or none that can be read. */
export async function evaluatedText(file: string): Promise<EvaluatedText | null> {
  try {
    if ((await stat(file)).size > maxBytes) return null;
    const parsed = evaluationTokensFile.safeParse(JSON.parse(await readFile(file, "utf8")));
    if (!parsed.success) return null;
    const { tokens, sequenceLength, before, after } = parsed.data;
    const fits = [before, after].every(
      (one) => !one || [one.nll, one.kl ?? one.nll].every((values) => values.length === tokens.length),
    );
    return fits ? { tokens, sequenceLength, before, after } : null;
  } catch {
    return null;
  }
}
