import type { CellForecast } from "../../../protocol/compare";
import { errorCodeOf, isCancelled } from "../../../protocol/errors";
import { isRunFolder, readRun } from "../folder/runFolder";
import { preflight, type PreflightOptions } from "../preflight/preflight";
import { probeWith, type RunMachinery } from "../startRun";
import type { Cell } from "./cells";

/** What one cell would take if it were alone, or why it cannot begin. @throws RerouteError `cancelled` only */
export async function forecastCell(
  machinery: RunMachinery,
  { id, method, keep, recipe, runDirectory }: Cell,
  baseFolder: string,
  asked: Pick<PreflightOptions, "showsText" | "skipsTexts" | "force" | "responses"> & { signal: AbortSignal },
): Promise<CellForecast> {
  const probe = probeWith(machinery, { recipe }, asked);
  try {
    const run = (await isRunFolder(runDirectory)) ? await readRun(runDirectory) : null;
    const known = run ? { run } : {};
    const options = { runDirectory, ...known, probe, ...asked };
    const result = await preflight(recipe, baseFolder, options);
    return { id, method, keep, preflight: result, error: null };
  } catch (error) {
    if (isCancelled(error)) throw error;
    const message = error instanceof Error ? error.message : String(error);
    return { id, method, keep, preflight: null, error: { code: errorCodeOf(error), message } };
  }
}
