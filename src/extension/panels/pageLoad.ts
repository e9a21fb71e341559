import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import { RerouteError } from "../../protocol/errors";
import type { EmptyReason, PageSource, ToPage } from "../../protocol/pageMessages";
import type { PageName, TensorsData } from "../../protocol/pageData";
import type { RunSummary, TradeOffPanelData } from "../../protocol/panels";
import { loadPlan } from "../editors/planDocument";
import { overviewOf } from "../overview/overviewOf";
import { runFiles } from "../../protocol/run";
import { isComparison } from "../runs/comparisonFolders";
import type { Playground } from "../playground/playground";
import { tellApart } from "../runs/tellApart";
import type { Services } from "../services";
import { readSettings } from "../settings";
import { panelKinds } from "./pageKinds";

export type HydrateMessage = Extract<ToPage, { type: "hydrate" }>;

/** Everything a page shows, asked from the engine: the answer to its "ready". */
export async function loadPage(
  page: PageName,
  source: PageSource,
  services: Services,
  playground: Playground,
): Promise<HydrateMessage> {
  const { engine } = services;
  const runDirectory = source.kind === "run" ? source.runDirectory : "";
  const runs = source.kind === "run" ? tellApart(await services.runList.get().catch(() => [])) : [];
  const context = {
    title: await titleOf(page, source, services),
    source,
    ...(source.kind === "run"
      ? { runs: runs.slice(0, maxRuns).map(({ directory, name }) => ({ directory, name })) }
      : {}),
    live: services.runs.shown().some((live) => live.runDirectory === runDirectory),
    colourScale: readSettings().colourScale,
  };
  const common = { type: "hydrate", context } as const;
  const empty = (data: unknown): EmptyReason | null => {
    if (data !== null || page === "overview" || page === "tensors" || page === "plan") return null;
    if (!context.live) return panelKinds[page].empty();
    return { message: vscode.l10n.t("The run has not come so far yet; this panel fills by itself"), command: null };
  };
  // A run that this window has just begun has no run folder yet; that is emptiness, not a failure.
  const ofRun = <T>(directory: string, ask: (run: { runDirectory: string }) => Promise<T | null>): Promise<T | null> =>
    services.runs.get(directory) && !existsSync(path.join(directory, runFiles.run))
      ? Promise.resolve(null)
      : ask({ runDirectory: directory });
  switch (page) {
    case "routing": {
      const read = (directory: string) => ofRun(directory, (run) => engine.request("panel/routing", run));
      const data = await read(runDirectory);
      return { ...common, page, data, empty: empty(data), ...(await comparedWith(source, runs, read)) };
    }
    case "divergence": {
      const read = (directory: string) => ofRun(directory, (run) => engine.request("panel/divergence", run));
      const data = await read(runDirectory);
      return { ...common, page, data, empty: empty(data), ...(await comparedWith(source, runs, read)) };
    }
    case "similarity": {
      const read = (directory: string) => ofRun(directory, (run) => engine.request("panel/similarity", run));
      const data = await read(runDirectory);
      return { ...common, page, data, empty: empty(data), ...(await comparedWith(source, runs, read)) };
    }
    case "calibration": {
      const read = (directory: string) => ofRun(directory, (run) => engine.request("panel/calibration", run));
      const data = await read(runDirectory);
      return { ...common, page, data, empty: empty(data), ...(await comparedWith(source, runs, read)) };
    }
    case "tradeOff": {
      const runsFolder = source.kind === "runs" ? source.runsFolder : services.runList.folder;
      const data = onlyOf(source, await engine.request("panel/tradeOff", { runsFolder }));
      const nothing = data.points.length === 0;
      return { ...common, page, data: nothing ? null : data, empty: nothing ? empty(null) : null };
    }
    case "text": {
      const data = await ofRun(runDirectory, (run) => engine.request("panel/text", run));
      return { ...common, page, data, empty: empty(data) };
    }
    case "workers": {
      const data = await ofRun(runDirectory, (run) => engine.request("panel/workers", run));
      return { ...common, page, data, empty: empty(data) };
    }
    case "distillation": {
      const data = await ofRun(runDirectory, (run) => engine.request("panel/distillation", run));
      return { ...common, page, data, empty: empty(data) };
    }
    case "playground": {
      const checkpoints = source.kind === "checkpoints" ? source.checkpoints : [];
      const data = checkpoints.length === 0 ? null : await playground.show(checkpoints);
      return { ...common, page, data, empty: empty(data) };
    }
    case "overview":
      return { ...common, page, data: await overviewOf(services), empty: null };
    case "tensors":
      return { ...common, page, data: await loadTensors(source, services), empty: null };
    case "plan":
      return { ...common, page, data: await loadPlan(fileOf(source), services), empty: null };
  }
}

/** Of runs that can be shown in a panel, this many are offered, the newest. */
const maxRuns = 200;

/** The same data of the runs that a page compares with its own; one that is gone is left out. */
async function comparedWith<T>(
  source: PageSource,
  runs: RunSummary[],
  read: (runDirectory: string) => Promise<T | null>,
): Promise<{ others?: { directory: string; name: string; data: T | null }[] }> {
  if (source.kind !== "run" || !source.compareWith) return {};
  const wanted = source.compareWith.flatMap((one) => runs.filter(({ directory }) => directory === one));
  const others = await Promise.all(
    wanted.map(async ({ directory, name }) => ({ directory, name, data: await read(directory) })),
  );
  return { others };
}

/** The points of the runs that were chosen; without a choice all. Their teachers are among them. */
function onlyOf(source: PageSource, { points }: TradeOffPanelData): TradeOffPanelData {
  const only = source.kind === "runs" ? source.only : undefined;
  if (!only) return { points };
  const chosen = points.filter(({ runDirectory }) => only.includes(runDirectory));
  const groups = new Set(chosen.map(({ group }) => group.id));
  return {
    points: points.filter((one) => chosen.includes(one) || (one.stage === "teacher" && groups.has(one.group.id))),
  };
}

async function titleOf(page: PageName, source: PageSource, { runList, runs }: Services): Promise<string> {
  if (source.kind === "file") return path.basename(vscode.Uri.parse(source.uri).fsPath);
  if (source.kind === "run") {
    const live = runs.get(source.runDirectory);
    const { runs: listed, comparisons } = await runList.all();
    const known = live ?? [...listed, ...comparisons].find(({ directory }) => directory === source.runDirectory);
    return known?.name ?? path.basename(source.runDirectory);
  }
  if (source.kind === "checkpoints") return source.checkpoints.map(({ name }) => name).join(", ");
  if (source.kind !== "runs") return "Reroute";
  if (source.only) return vscode.l10n.t("{0} runs", source.only.length);
  const comparison = (await runList.all()).comparisons.find(({ directory }) => directory === source.runsFolder);
  return (
    comparison?.name ?? (isComparison(source.runsFolder) ? path.basename(source.runsFolder) : vscode.l10n.t("All runs"))
  );
}

function fileOf(source: PageSource): vscode.Uri {
  if (source.kind === "file") return vscode.Uri.parse(source.uri);
  throw new RerouteError("internal", `An editor was opened for ${source.kind}, not a file`);
}

async function loadTensors(source: PageSource, { engine, checkpoints }: Services): Promise<TensorsData> {
  const file = fileOf(source).fsPath;
  const { tensors } = await engine.request("checkpoint/tensors", { path: file });
  // Its quantised values are not read.
  const isGguf = file.endsWith(".gguf");
  let summary: CheckpointSummary | null = null;
  let summaryError: string | null = null;
  try {
    summary = await checkpoints.inspect(isGguf ? file : path.dirname(file));
  } catch (error) {
    summaryError = error instanceof Error ? error.message : String(error);
  }
  return { file: path.basename(file), tensors, summary, summaryError, statisticsAvailable: !isGguf };
}
