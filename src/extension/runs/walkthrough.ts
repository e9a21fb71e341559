import * as vscode from "vscode";
import type { RunSummary } from "../../protocol/panels";
import { milestonesOf, type Milestone } from "./milestones";

/** Tells the walkthrough that a step was done, and not only opened and given up. */
export function reached(milestone: Milestone): void {
  void vscode.commands.executeCommand("setContext", `reroute.${milestone}`, true);
}

export function tellWalkthrough(runs: readonly RunSummary[]): void {
  for (const milestone of milestonesOf(runs)) reached(milestone);
}
