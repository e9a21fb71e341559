import { existsSync } from "node:fs";
import path from "node:path";
import { hubCacheFolder, resolveHubPath } from "../engine/checkpoint/hubCache";
import { RerouteError } from "../protocol/errors";
import type { CliIo } from "./io";

/**
 * The checkpoint that an argument means: a path below the current folder; where nothing lies there, "org/name" (or
 * "org/name@revision") of a model in the Hugging Face cache.
 * @throws RerouteError checkpoint/not-found where neither has it
 */
export async function checkpointPath(io: CliIo, written: string): Promise<string> {
  const found = await resolveHubPath(path.resolve(io.cwd, written), written);
  if (!existsSync(found) && /^[\w.-]+\/[\w.-]+(?:@[\w.-]+)?$/.test(written)) {
    throw new RerouteError(
      "checkpoint/not-found",
      `no such file or folder: ${found}; nor has the Hugging Face cache ${hubCacheFolder()} a model ${written}; check the path, or download the model`,
    );
  }
  return found;
}
