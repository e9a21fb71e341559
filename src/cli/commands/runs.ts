import path from "node:path";
import type { Command } from "commander";
import { listRuns } from "../../engine/report/panels";
import { readLabels, writeLabels } from "../../engine/run/folder/labels";
import { isHeld } from "../../engine/run/folder/lock";
import { readProgress, requestCancel } from "../../engine/run/folder/onlookers";
import { isRunFolder, readRun } from "../../engine/run/folder/runFolder";
import { runSize } from "../../engine/run/folder/runSize";
import { RerouteError } from "../../protocol/errors";
import { isFound } from "../../protocol/labels";
import type { RunSummary } from "../../protocol/panels";
import { formatBytes, formatNumber, formatPercent } from "../../protocol/quantities";
import { withAbsolutePaths } from "../../protocol/recipePaths";
import type { CliIo } from "../io";
import { safeText, textTable } from "../table";

interface RunsOptions {
  dir: string;
  search?: string;
  name?: string;
  tag?: string[];
  untag?: string[];
  recipe?: boolean;
  cancel?: boolean;
  json?: boolean;
}

/** `reroute runs`: what was run, how it went, and what people call it. */
export function addRuns(program: Command, io: CliIo): void {
  program
    .command("runs")
    .description("list runs with state, verdict, date and size; name, tag or cancel one, or print its recipe")
    .argument("[run]", "a run: its name, the name of its folder, or a path (default: all are listed)")
    .option("--dir <dir>", "folder of run folders", path.join(".reroute", "runs"))
    .option(
      "--search <words>",
      "only runs with all these words in name, tags, method, state, verdict or date; #word: in tags",
    )
    .option("--name <name>", "call the run this; an empty name takes it back")
    .option("--tag <tags...>", "add these tags to the run")
    .option("--untag <tags...>", "take these tags from the run")
    .option("--recipe", "print the run's recipe, with absolute paths")
    .option("--cancel", "ask the process that works on the run to stop")
    .option("--json", "print the result as JSON")
    .action(async (run: string | undefined, options: RunsOptions) => {
      const found = await sized((await listRuns(path.resolve(io.cwd, options.dir))).filter(matching(options.search)));
      if (run === undefined) {
        refuseWithoutRun(options);
        list(io, found, options);
        return;
      }
      const directory = await directoryOf(io, run, options.dir, found);
      if (options.recipe) return printRecipe(io, directory);
      if (options.cancel) return cancel(io, directory);
      await label(directory, options);
      const one = await sized(await listRuns(path.dirname(directory)));
      list(
        io,
        one.filter((summary) => summary.directory === directory),
        options,
      );
    });
}

/** @throws RerouteError arguments/invalid for options that are about one run */
function refuseWithoutRun({ name, tag, untag, recipe, cancel: cancels }: RunsOptions): void {
  if ([name, tag, untag, recipe, cancels].every((option) => option === undefined)) return;
  const message = 'name the run that --name, --tag, --untag, --recipe or --cancel is about: "reroute runs <run> ..."';
  throw new RerouteError("arguments/invalid", message);
}

type Sized = RunSummary & { bytes: number };

function matching(search: string | undefined): (run: RunSummary) => boolean {
  return (run) => search === undefined || isFound(run, search);
}

function sized(runs: RunSummary[]): Promise<Sized[]> {
  return Promise.all(runs.map(async (run) => ({ ...run, bytes: (await runSize(run.directory)).bytes })));
}

function list(io: CliIo, runs: Sized[], { dir, search, json }: RunsOptions): void {
  if (json) {
    io.out(`${JSON.stringify(runs, null, 2)}\n`);
    return;
  }
  if (runs.length === 0) {
    io.out(
      search === undefined ? `no runs in ${safeText(dir)}\n` : `no run in ${safeText(dir)} has: ${safeText(search)}\n`,
    );
    return;
  }
  const kl = (value: number | null): string => (value === null ? "–" : formatNumber(value));
  const rows = runs.map((run) => [
    safeText(run.name),
    stateOf(run),
    run.method ?? "–",
    run.verdict ?? "–",
    kl(run.klBefore),
    kl(run.klAfter),
    run.createdAt.slice(0, 16).replace("T", " "),
    formatBytes(run.bytes),
    run.tags.map((tag) => `#${safeText(tag)}`).join(" "),
  ]);
  const head = ["Run", "State", "Method", "Verdict", "KL before", "KL after", "Created (UTC)", "Size", "Tags"];
  io.out(textTable([head, ...rows]));
}

function stateOf({ state, directory }: RunSummary): string {
  const share = state === "running" ? readProgress(directory)?.run?.share : undefined;
  return share === undefined ? state : `${state} ${formatPercent(Math.floor(100 * share) / 100)}`;
}

/** @throws RerouteError run/invalid where nothing, or more than one run, is called so */
async function directoryOf(io: CliIo, named: string, dir: string, runs: RunSummary[]): Promise<string> {
  const asPath = path.resolve(io.cwd, named);
  if (await isRunFolder(asPath)) return asPath;
  const matches = runs.filter(({ id, name, directory }) => [id, name, path.basename(directory)].includes(named));
  if (matches.length === 1) return matches[0]!.directory;
  const problem =
    matches.length === 0
      ? `no run in ${dir} is called so; "reroute runs" lists them`
      : `${matches.length} runs are called so: ${matches.map(({ directory }) => directory).join(", ")}; name one by its path`;
  throw new RerouteError("run/invalid", `The run ${JSON.stringify(named)} was not found: ${problem}`);
}

async function label(directory: string, { name, tag = [], untag = [] }: RunsOptions): Promise<void> {
  if (name === undefined && tag.length === 0 && untag.length === 0) return;
  const before = await readLabels(directory);
  const tags = [...new Set([...before.tags, ...tag])].filter((known) => !untag.includes(known));
  await writeLabels(directory, { ...(name === undefined ? {} : { name: name.trim() || null }), tags });
}

async function printRecipe(io: CliIo, directory: string): Promise<void> {
  const { recipe, baseFolder } = await readRun(directory);
  io.out(`${JSON.stringify(withAbsolutePaths(recipe, baseFolder), null, 2)}\n`);
}

async function cancel(io: CliIo, directory: string): Promise<void> {
  if (!(await isHeld(directory)))
    throw new RerouteError(
      "run/invalid",
      `No process works on the run ${JSON.stringify(directory)}: there is nothing to cancel`,
    );
  await requestCancel(directory);
  io.out("asked to stop; it stops after the layer or update that it works on, and can be resumed\n");
}
