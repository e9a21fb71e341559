import type { Recipe } from "../protocol/recipe";
import type { RunFile } from "../protocol/run";
import type { CliIo } from "./io";
import { progressPrinter } from "./progress";

/** Works a recipe off in a run folder with progress on stderr. */
export async function runInFolder(
  io: CliIo,
  request: { runDirectory: string; recipe: Recipe; baseFolder: string; force?: boolean },
): Promise<RunFile> {
  const { startRun } = await import("../engine/run/startRun");
  const { machinery } = await import("../engine/pipeline");
  const progress = progressPrinter(io);
  try {
    return await startRun(machinery, request, {
      signal: io.signal,
      report: progress.report,
      onWarning: (message) => progress.note(`warning: ${message}`),
      force: request.force ?? false,
    });
  } finally {
    progress.end();
  }
}
