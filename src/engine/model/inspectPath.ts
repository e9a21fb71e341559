import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import { findGguf, openGgufModel } from "../gguf/open";
import { resolveHubPath } from "../checkpoint/hubCache";
import { openCheckpoint } from "../checkpoint/open";
import { summariseGguf } from "./ggufSummary";
import { summariseCheckpoint } from "./inspect";

/**
 * What a path holds: a safetensors checkpoint (folder, config.json, .safetensors file, index) or a GGUF model (.gguf
 * file, any part of a split one, or a folder with one such model); of a model's folder in a Hugging Face cache, its newest
 * snapshot. Headers only.
 * @throws RerouteError codes of openCheckpoint and openGgufModel
 */
export async function inspectPath(anyPath: string): Promise<CheckpointSummary> {
  const found = await resolveHubPath(anyPath);
  const gguf = await findGguf(found);
  return gguf === null
    ? summariseCheckpoint(await openCheckpoint(found))
    : summariseGguf(await openGgufModel(gguf.path), gguf.notes);
}
