import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { RerouteError, type ErrorCode } from "../../protocol/errors";
import type { RunSummary } from "../../protocol/panels";
import { runFiles } from "../../protocol/run";
import { showFailure } from "../failure";
import { isComparison } from "../runs/comparisonFolders";
import type { Services } from "../services";
import { directoryOf, pickRun } from "./pickRun";

/** A click on a run: what tells most of it in its state. A comparison opens its trade-off; a failed run says why. */
export async function openRun(argument: unknown, services: Services): Promise<void> {
  const named = directoryOf(argument);
  if (named !== null && isComparison(named)) {
    await vscode.commands.executeCommand("reroute.openTradeOff", { runDirectory: named });
    return;
  }
  const run = await pickRun(argument, services);
  if (!run) return;
  if (run.error && run.state === "failed") {
    const { code, message } = run.error;
    showFailure(new RerouteError(code as ErrorCode, message), services.log, {
      kind: "run",
      runDirectory: run.directory,
    });
    return;
  }
  await vscode.commands.executeCommand(`reroute.${pageOf(run)}`, { kind: "run", runDirectory: run.directory });
}

/** The page that a run is best read on. */
export function pageOf({ directory, state, stages }: Pick<RunSummary, "directory" | "state" | "stages">): string {
  const stage = (id: string) => stages.find((one) => one.id === id)?.state ?? "skipped";
  if (state === "done" && existsSync(path.join(directory, runFiles.report))) return "openReport";
  if (stage("calibrate") !== "skipped" && stage("calibrate") !== "pending") return "openCalibration";
  if (stage("profile") === "done") return "openRouting";
  return stage("calibrate") === "skipped" ? "openRouting" : "openCalibration";
}
