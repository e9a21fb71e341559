import type { CompressOptions } from "../../protocol/recipe";
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
export function needsText(options: Pick<CompressOptions, "method" | "protectSuperExperts">): boolean {
  return needsStatistics(options) || (!isPruningCriterion(options.method) && methods[options.method].needs.text);
}
