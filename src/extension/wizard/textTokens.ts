import { statSync } from "node:fs";
import type { EngineClient } from "../engine/client";

/**
 * Tokens of a text by the checkpoint's tokenizer. Where they cannot be counted, which the pre-flight then says, what its size gives
 * at least.
 */
export async function textTokens(
  file: string | undefined,
  checkpoint: string,
  engine: Pick<EngineClient, "request">,
): Promise<number> {
  const bytes = statSync(file ?? "", { throwIfNoEntry: false })?.size;
  if (file === undefined || bytes === undefined) return 0;
  return engine.request("text/measure", { checkpoint, path: file }).then(
    ({ tokens }) => tokens,
    () => estimateTokens(bytes),
  );
}

/** Tokens that a text of this size gives at least: real texts have three to five bytes a token. */
export function estimateTokens(bytes: number): number {
  return Math.floor(bytes / 5);
}
