import path from "node:path";
import type { Command } from "commander";
import { comparisonRows, lostLines } from "../../engine/report/comparisonReport";
import { formatBytes, formatCount, formatDuration } from "../../protocol/quantities";
import { readComparisonRecipe } from "../../engine/run/compare/comparisonFolder";
import type { ComparisonRequest } from "../../engine/run/compare/startComparison";
import {
  comparisonFiles,
  comparisonNameOf,
  type ComparisonFile,
  type ComparisonForecast,
} from "../../protocol/compare";
import { foldersOf } from "../../engine/run/queue/foldersOf";
import { errorCodeOf } from "../../protocol/errors";
import type { CliIo } from "../io";
import { progressPrinter } from "../progress";
import { addSpreadOptions, spread, type SpreadOptions } from "../queueOptions";
import { textTable } from "../table";
import { describeText } from "./run";

interface CompareOptions extends SpreadOptions {
  dir?: string;
  dryRun?: boolean;
  force?: boolean;
  json?: boolean;
}

/** `reroute compare <file>`: methods x keep ratios over one teacher, before and after calibration, in one table. */
export function addCompare(program: Command, io: CliIo): void {
  const command = program
    .command("compare")
    .description("compare compression methods and ratios over one teacher; continues where it stopped")
    .argument("<file>", "comparison file (*.compare.reroute.json)")
    .option("--dir <dir>", "folder of the comparison (default: the file's output, or .reroute/runs/<name> beside it)")
    .option("--dry-run", "print size, time and refusals of every cell, and do nothing")
    .option("--force", "go on although cells train on the evaluation text, or the teacher was; the verdicts say so")
    .option("--json", "print the result as JSON")
    .action(async (file: string, options: CompareOptions) => {
      const request = await requestOf(io, file, options.dir);
      await (options.dryRun ? dryRun : compare)(io, request, options);
    });
  addSpreadOptions(command);
}

async function requestOf(io: CliIo, file: string, dir: string | undefined): Promise<ComparisonRequest> {
  const comparisonFile = path.resolve(io.cwd, file);
  const recipe = await readComparisonRecipe(comparisonFile);
  const baseFolder = path.dirname(comparisonFile);
  const fileName = comparisonNameOf(path.basename(comparisonFile));
  const directory =
    dir === undefined
      ? path.resolve(baseFolder, recipe.output ?? path.join(".reroute", "runs", fileName))
      : path.resolve(io.cwd, dir);
  return { directory, recipe, baseFolder, name: recipe.name ?? fileName };
}

async function compare(io: CliIo, request: ComparisonRequest, options: CompareOptions): Promise<void> {
  const { json = false, force = false } = options;
  const { startComparison } = await import("../../engine/run/compare/startComparison");
  const { machinery } = await import("../../engine/pipeline");
  const { writeComparisonReport } = await import("../../engine/report/comparisonReport");
  const progress = progressPrinter(io);
  const warn = (message: string) => progress.note(`warning: ${message}`);
  const { directory, recipe: machine } = request;
  try {
    const of = { machinery, machine, directory, folders: () => foldersOf(request), warn };
    const comparison = await spread(options, of, (spreading) =>
      startComparison(spreading, writeComparisonReport, request, {
        signal: io.signal,
        force,
        report: progress.report,
        onWarning: warn,
        onCell: ({ id }, number, total, remaining) => {
          const left = !remaining ? "" : `, about ${formatDuration(remaining)} left`;
          progress.note(`cell ${number} of ${total}: ${id}${left}`);
        },
        onFailure: ({ id }, error) => progress.note(`failed ${id}: ${errorCodeOf(error)}: ${error.message}`),
      }),
    );
    progress.end();
    io.out(
      json
        ? `${JSON.stringify({ directory: request.directory, ...comparison }, null, 2)}\n`
        : describe(request, comparison),
    );
  } finally {
    progress.end();
  }
}

function describe({ directory }: ComparisonRequest, comparison: ComparisonFile): string {
  const failures = comparison.cells.flatMap(({ id, error }) =>
    error ? [`failed ${id}: ${error.code}: ${error.message}`] : [],
  );
  const seconds = comparison.cells.reduce((sum, cell) => sum + cell.seconds, 0);
  const table = textTable(comparisonRows(comparison));
  const lines = [
    ...failures,
    ...lostLines(comparison),
    `KL to the teacher and loss in nats a token, ${table.includes(" ± ") ? "± half of the 95 % bootstrap interval over held-out sequences" : "without an interval: the held-out text is one document"}`,
    `Time    ${formatDuration(seconds)}`,
    `Report  ${path.join(directory, comparisonFiles.report)}`,
  ];
  return `${table}\n${lines.join("\n")}\n`;
}

async function dryRun(
  io: CliIo,
  request: ComparisonRequest,
  { json = false, force = false }: CompareOptions,
): Promise<void> {
  const { machinery } = await import("../../engine/pipeline");
  const { forecastComparison } = await import("../../engine/run/compare/forecastComparison");
  const forecast = await forecastComparison(machinery, request, io.signal, force);
  io.out(json ? `${JSON.stringify(forecast, null, 2)}\n` : describeForecast(forecast));
}

function describeForecast({ cells, seconds }: ComparisonForecast): string {
  const none = "–";
  const rows = cells.map(({ id, preflight: p, error }) => {
    const refusal = error ?? p?.refusals[0];
    return [
      id,
      p ? formatCount(p.parametersAfter) : none,
      p ? formatBytes(p.bytesAfter) : none,
      p ? formatBytes(p.diskNeededBytes) : none,
      p ? formatBytes(p.peakMemoryBytes) : none,
      p ? formatDuration(p.seconds) : none,
      refusal ? `would be refused: ${refusal.code}` : "",
    ];
  });
  const refusals = cells.flatMap(({ id, preflight: p, error }) =>
    (error ? [error] : (p?.refusals ?? [])).map(({ code, message }) => `${id}: ${code}: ${message}`),
  );
  const head = ["Cell", "Parameters", "Size", "Disk needed", "Peak memory", "Time alone", ""];
  const total = `Time of the whole comparison, with one profile and one teacher for all: about ${formatDuration(seconds)}`;
  const texts = cells.flatMap(({ preflight: p }) => p?.texts ?? []).flatMap(describeText);
  return `${textTable([head, ...rows])}\n${[...refusals, ...texts, total].join("\n")}\n`;
}
