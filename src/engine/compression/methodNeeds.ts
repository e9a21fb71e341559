import type { CompressOptions } from "../../protocol/recipe";
import { searchesBudgets } from "./budgets/expertCounts";
import { methods } from "./methods";
import { isPruningCriterion, pruningCriteria } from "./pruning/criteria";

/** Whether a method looks at what calibration tokens did. */
export function needsStatistics({
  method,
  protectSuperExperts,
}: Pick<CompressOptions, "method" | "protectSuperExperts">): boolean {
  if (!isPruningCriterion(method)) return methods[method].needs.statistics;
  return protectSuperExperts !== "off" || pruningCriteria[method].source === "statistics";
}

/** Whether a method needs calibration text at all: for a profile, or to run it through the experts. */
export function needsText(options: Pick<CompressOptions, "method" | "protectSuperExperts" | "options">): boolean {
  return needsStatistics(options) || runsText(options);
}

/** Whether making a plan runs calibration text through the model. */
export function runsText({ method, options }: Pick<CompressOptions, "method" | "options">): boolean {
  return isPruningCriterion(method) ? searchesBudgets(options) : methods[method].needs.text;
}
