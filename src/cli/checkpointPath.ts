import path from "node:path";
import { resolveHubPath } from "../engine/checkpoint/hubCache";
import type { CliIo } from "./io";

/**
 * The checkpoint that an argument means: a path below the current folder; where nothing lies there, "org/name" (or
 * "org/name@revision") of a model in the Hugging Face cache.
 */
export function checkpointPath(io: CliIo, written: string): Promise<string> {
  return resolveHubPath(path.resolve(io.cwd, written), written);
}
