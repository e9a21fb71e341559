import type { RunFile } from "../../protocol/run";
import { formatBytes, formatDuration } from "../../protocol/quantities";

export const stageColumns = ["Stage", "State", "Time", "Time predicted", "Peak memory", "Peak memory predicted"];

/** Each stage as it went beside what the pre-flight had said; "–" where something was not measured or not predicted. */
export function stageRows({ stages, preflight }: RunFile): string[][] {
  return stages
    .filter(({ id, state }) => state !== "skipped" && id !== "report")
    .map(({ id, state, seconds, peakMemoryBytes }) => {
      const predicted = preflight?.stages.find(({ stage }) => stage === id);
      return [
        id,
        state,
        formatDuration(seconds),
        predicted ? formatDuration(predicted.seconds) : "–",
        peakMemoryBytes === null ? "–" : formatBytes(peakMemoryBytes),
        predicted ? formatBytes(predicted.peakMemoryBytes) : "–",
      ];
    });
}
