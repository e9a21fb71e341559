import path from "node:path";
import type { Command } from "commander";
import { comparisonRows } from "../../engine/report/comparisonReport";
import { formatBytes, formatCount, formatDuration } from "../../engine/report/format";
import { cellsOf, type Cell } from "../../engine/run/compare/cells";
import { readComparisonRecipe } from "../../engine/run/compare/comparisonFolder";
import type { ComparisonRequest } from "../../engine/run/compare/startComparison";
import { preflight } from "../../engine/run/preflight";
import { isRunFolder, readRun } from "../../engine/run/runFolder";
import { comparisonFiles, type ComparisonFile } from "../../protocol/compare";
import { errorCodeOf, isCancelled } from "../../protocol/errors";
import type { Preflight } from "../../protocol/run";
import type { CliIo } from "../io";
import { progressPrinter } from "../progress";
import { textTable } from "../table";

interface CompareOptions {
  dir?: string;
  dryRun?: boolean;
  json?: boolean;
}

/** `reroute compare <file>`: methods x keep ratios over one teacher, before and after calibration, in one table. */
export function addCompare(program: Command, io: CliIo): void {
  program
    .command("compare")
    .description("compare compression methods and ratios over one teacher; continues where it stopped")
    .argument("<file>", "comparison file (*.compare.reroute.json)")
    .option("--dir <dir>", "folder of the comparison (default: the file's output, or .reroute/runs/<name> beside it)")
    .option("--dry-run", "print size, time and refusals of every cell, and do nothing")
    .option("--json", "print the result as JSON")
    .action(async (file: string, options: CompareOptions) => {
      const request = await requestOf(io, file, options.dir);
      if (options.dryRun) await dryRun(io, request, options.json ?? false);
      else await compare(io, request, options.json ?? false);
    });
}

async function requestOf(io: CliIo, file: string, dir: string | undefined): Promise<ComparisonRequest> {
  const comparisonFile = path.resolve(io.cwd, file);
  const recipe = await readComparisonRecipe(comparisonFile);
  const baseFolder = path.dirname(comparisonFile);
  const fileName = path.basename(comparisonFile).replace(/(\.compare)?(\.reroute)?\.json$/, "");
  const directory =
    dir === undefined
      ? path.resolve(baseFolder, recipe.output ?? path.join(".reroute", "runs", fileName))
      : path.resolve(io.cwd, dir);
  return { directory, recipe, baseFolder, name: recipe.name ?? fileName };
}

async function compare(io: CliIo, request: ComparisonRequest, json: boolean): Promise<void> {
  const { startComparison } = await import("../../engine/run/compare/startComparison");
  const { machinery } = await import("../../engine/pipeline");
  const { writeComparisonReport } = await import("../../engine/report/comparisonReport");
  const progress = progressPrinter(io);
  try {
    const comparison = await startComparison(machinery, writeComparisonReport, request, {
      signal: io.signal,
      report: progress.report,
      onWarning: (message) => progress.note(`warning: ${message}`),
      onCell: ({ id }, number, total, remaining) => {
        const left = remaining === null ? "" : `, about ${formatDuration(remaining)} left`;
        progress.note(`cell ${number} of ${total}: ${id}${left}`);
      },
      onFailure: ({ id }, error) => progress.note(`failed ${id}: ${errorCodeOf(error)}: ${error.message}`),
    });
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
  const lines = [
    ...failures,
    "KL to the teacher and loss in nats a token, ± half of the 95 % bootstrap interval over held-out sequences",
    `Time    ${formatDuration(seconds)}`,
    `Report  ${path.join(directory, comparisonFiles.report)}`,
  ];
  return `${textTable(comparisonRows(comparison))}\n${lines.join("\n")}\n`;
}

type Forecast = { id: string; method: string; keep: number } & (
  { preflight: Preflight; error: null } | { preflight: null; error: { code: string; message: string } }
);

/** Each cell's pre-flight as if it were alone; the profile is made once, so it counts once in the total. */
async function dryRun(io: CliIo, request: ComparisonRequest, json: boolean): Promise<void> {
  const forecasts: Forecast[] = [];
  const { machinery } = await import("../../engine/pipeline");
  const { sharedMachinery } = await import("../../engine/run/compare/sharedMachinery");
  const shared = sharedMachinery(machinery, path.join(request.directory, comparisonFiles.shared));
  for (const cell of cellsOf(request.recipe, request.directory, request.name)) {
    forecasts.push(await forecast(io, cell, request.baseFolder, shared));
  }
  const seconds = totalSeconds(forecasts);
  io.out(json ? `${JSON.stringify({ seconds, cells: forecasts }, null, 2)}\n` : describeForecasts(forecasts, seconds));
}

async function forecast(
  io: CliIo,
  { id, method, keep, recipe, runDirectory }: Cell,
  baseFolder: string,
  machinery: Parameters<typeof import("../../engine/run/startRun").probeWith>[0],
): Promise<Forecast> {
  const { probeWith } = await import("../../engine/run/startRun");
  const { signal } = io;
  const probe = probeWith(machinery, { recipe }, { signal });
  try {
    const run = (await isRunFolder(runDirectory)) ? await readRun(runDirectory) : null;
    const known = run ? { run } : {};
    const result = await preflight(recipe, baseFolder, { runDirectory, ...known, probe, force: false, signal });
    return { id, method, keep, preflight: result, error: null };
  } catch (error) {
    if (isCancelled(error)) throw error;
    const message = error instanceof Error ? error.message : String(error);
    return { id, method, keep, preflight: null, error: { code: errorCodeOf(error), message } };
  }
}

function totalSeconds(forecasts: readonly Forecast[]): number {
  const possible = forecasts.flatMap(({ preflight: p }) => (p && p.refusals.length === 0 ? [p] : []));
  const profileOf = (p: Preflight): number => p.stages.find(({ stage }) => stage === "profile")?.seconds ?? 0;
  const own = possible.reduce((sum, p) => sum + p.seconds - profileOf(p), 0);
  return own + (possible[0] ? profileOf(possible[0]) : 0);
}

function describeForecasts(forecasts: readonly Forecast[], seconds: number): string {
  const none = "–";
  const rows = forecasts.map(({ id, preflight: p, error }) => {
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
  const refusals = forecasts.flatMap(({ id, preflight: p, error }) =>
    (error ? [error] : (p?.refusals ?? [])).map(({ code, message }) => `${id}: ${code}: ${message}`),
  );
  const head = ["Cell", "Parameters", "Size", "Disk needed", "Peak memory", "Time alone", ""];
  const total = `Time of the whole comparison, with one profile for all: about ${formatDuration(seconds)}`;
  return `${textTable([head, ...rows])}\n${[...refusals, total].join("\n")}\n`;
}
