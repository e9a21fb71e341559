import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import { findGguf, openGgufModel } from "../gguf/open";
import { openCheckpoint } from "../checkpoint/open";
import { summariseGguf } from "./ggufSummary";
import { summariseCheckpoint } from "./inspect";

/**
 * What a path holds: a safetensors checkpoint (folder, config.json, .safetensors file, index) or a GGUF model (.gguf
 * file, any part of a split one, or a folder with one such model). Headers only.
 * @throws RerouteError codes of openCheckpoint and openGgufModel
 */
export async function inspectPath(anyPath: string): Promise<CheckpointSummary> {
  const gguf = await findGguf(anyPath);
  return gguf === null ? summariseCheckpoint(await openCheckpoint(anyPath)) : summariseGguf(await openGgufModel(gguf));
}
