import { rm } from "node:fs/promises";
import type { EvaluationTokensFile, TokenValues } from "../../../protocol/evaluationTokens";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import type { TokenSequences } from "../../data/sequences";
import { pieceDecoder } from "../../data/tokenizer";
import { evaluatedTokens } from "../../evaluation/tokenValues";
import type { StageContext } from "./stage";

/** evaluation-tokens.json, where there is a student whose tokens were seen; an older one of another text goes. */
export async function writeEvaluationTokens(
  { paths }: Pick<StageContext, "paths">,
  sequences: TokenSequences,
  { before, after }: { before: TokenValues | null; after: TokenValues | null },
): Promise<void> {
  const target = paths.file("evaluationTokens");
  if (!before && !after) {
    await rm(target, { force: true });
    return;
  }
  const file: EvaluationTokensFile = {
    schemaVersion: 1,
    sequenceLength: sequences.sequenceLength,
    tokens: evaluatedTokens(sequences, await pieceDecoder(paths.tokenizer)),
    before,
    after,
  };
  await writeFileAtomically(target, `${JSON.stringify(file)}\n`);
}
