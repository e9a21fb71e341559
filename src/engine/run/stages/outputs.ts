import { readdir, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { RerouteError } from "../../../protocol/errors";
import { provenanceSchema, type Provenance } from "../../../protocol/provenance";
import type { RunFile } from "../../../protocol/run";
import { openCheckpoint } from "../../checkpoint/open";
import { isUnfinishedOutputOf } from "../../checkpoint/outputFolder";
import { quote } from "../../checkpoint/quote";
import type { StageContext } from "./stage";

/** Whether a folder holds a complete checkpoint, or one of this run that only its marker keeps from being one. */
export async function isFinishedCheckpoint(directory: string, runId: string): Promise<boolean> {
  if (await isUnfinishedOutputOf(directory, runId)) return true;
  try {
    await openCheckpoint(directory);
    return true;
  } catch {
    return false;
  }
}

/**
 * Refuses to go on towards an output folder that holds anything but what this run left unfinished there: the result of hours
 * would meet it at the end. One between the steps of a pipeline is the pipeline's own and makes way.
 * @throws RerouteError output/not-empty
 */
export async function requireNewOutput(
  { paths: { output }, runId, ownsOutput }: Pick<StageContext, "paths" | "runId" | "ownsOutput">,
  reason: string,
): Promise<void> {
  const names = await readdir(output).catch(() => []);
  if (names.length === 0 || (await isUnfinishedOutputOf(output, runId))) return;
  if (ownsOutput) return rm(output, { recursive: true, force: true });
  throw new RerouteError(
    "output/not-empty",
    `The output folder ${quote(output)} holds ${names.slice(0, 3).map(quote).join(", ")}, and ${reason}; delete it, or choose another folder`,
  );
}

/**
 * Before a student is written: to the output folder, which must be free, or to the copy in the run folder, which is ours and of
 * which a file may be missing.
 * @throws RerouteError output/not-empty
 */
export async function makeWay(
  context: Pick<StageContext, "paths" | "runId" | "ownsOutput">,
  reason: string,
): Promise<void> {
  const { student, output } = context.paths;
  if (student === output) return requireNewOutput(context, reason);
  if (!(await isUnfinishedOutputOf(student, context.runId))) await rm(student, { recursive: true, force: true });
}

export async function fileExists(file: string): Promise<boolean> {
  try {
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}

/**
 * What reroute.json says about the run. No times and no run folder: the same recipe on the same machine gives the same
 * bytes.
 */
export function provenanceOf(run: RunFile): Pick<Provenance, "reroute" | "recipe" | "seed" | "versions"> {
  const { reroute, recipe, versions } = run;
  return { reroute, recipe, seed: recipe.seed, versions };
}

/** reroute.json of a checkpoint; null where there is none that can be read. */
export async function readProvenance(directory: string): Promise<Provenance | null> {
  try {
    const text = await readFile(path.join(directory, "reroute.json"), "utf8");
    const parsed = provenanceSchema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}
