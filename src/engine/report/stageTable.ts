import type { RunFile } from "../../protocol/run";
import { nameOf } from "../run/steps/pipelineSteps";
import type { Recipe } from "../../protocol/recipe";
import { formatBytes, formatDuration } from "../../protocol/quantities";

/** Names a stage; of a pipeline, with its step. */
export function stageName(
  { id, step }: { id: string; step?: number | undefined },
  { steps }: Pick<Recipe, "steps">,
): string {
  const own = step === undefined ? undefined : steps?.[step - 1];
  return own ? `${step} ${nameOf(own)}: ${id}` : id;
}

export const stageColumns = ["Stage", "State", "Time", "Time predicted", "Peak memory", "Peak memory predicted"];

/** Each stage as it went beside what the pre-flight had said; "–" where something was not measured or not predicted. */
export function stageRows({ stages, preflight, recipe }: RunFile): string[][] {
  return stages
    .filter(({ id, state }) => state !== "skipped" && id !== "report")
    .map(({ id, step, state, seconds, peakMemoryBytes }) => {
      const predicted = preflight?.stages.find((known) => known.stage === id && known.step === step);
      return [
        stageName({ id, step }, recipe),
        state,
        formatDuration(seconds),
        // Where nothing was measured, all times are 0.
        predicted && preflight!.seconds > 0 ? formatDuration(predicted.seconds) : "–",
        peakMemoryBytes === null ? "–" : formatBytes(peakMemoryBytes),
        predicted ? formatBytes(predicted.peakMemoryBytes) : "–",
      ];
    });
}
