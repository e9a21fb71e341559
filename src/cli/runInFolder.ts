import type { Recipe } from "../protocol/recipe";
import { foldersOf } from "../engine/run/queue/foldersOf";
import type { RunFile } from "../protocol/run";
import type { CliIo } from "./io";
import { progressPrinter } from "./progress";
import { spread, type SpreadOptions } from "./queueOptions";

/** Runs a recipe in a run folder with progress on stderr. */
export async function runInFolder(
  io: CliIo,
  request: { runDirectory: string; recipe: Recipe; baseFolder: string; force?: boolean },
  options: SpreadOptions = {},
): Promise<RunFile> {
  const { startRun } = await import("../engine/run/startRun");
  const { machinery } = await import("../engine/pipeline");
  const progress = progressPrinter(io);
  try {
    const warn = (message: string) => progress.note(`warning: ${message}`);
    const { runDirectory, recipe, baseFolder } = request;
    const folders = () => foldersOf({ directory: runDirectory, recipe, baseFolder });
    const of = { machinery, machine: recipe, directory: runDirectory, folders, warn };
    return await spread(options, of, (spreading) =>
      startRun(spreading, request, {
        signal: io.signal,
        report: progress.report,
        onWarning: warn,
        force: request.force ?? false,
      }),
    );
  } finally {
    progress.end();
  }
}
