import path from "node:path";
import { hubModelMissing, resolveHubPath } from "../engine/checkpoint/hubCache";
import { RerouteError } from "../protocol/errors";
import type { CliIo } from "./io";

/**
 * The checkpoint that an argument means: a path below the current folder; where nothing lies there, "org/name" (or
 * "org/name@revision") of a model in the Hugging Face cache.
 * @throws RerouteError checkpoint/not-found where neither has it
 */
export async function checkpointPath(io: CliIo, written: string): Promise<string> {
  const found = await resolveHubPath(path.resolve(io.cwd, written), written);
  const missing = hubModelMissing(written, found);
  if (missing !== null) throw new RerouteError("checkpoint/not-found", missing);
  return found;
}
