import type { Recipe } from "../../protocol/recipe";
import type { Preflight } from "../../protocol/run";
import { formatBytes, formatCount, formatDuration } from "../../protocol/quantities";
import type { Translate } from "../translate";

export interface PreflightLine {
  kind: "fact" | "warning" | "refusal";
  label: string;
  description: string;
}

/** What the last step of the wizard shows before anything starts: size, time, memory, disk, then what is wrong. */
export function preflightLines(preflight: Preflight, recipe: Recipe, t: Translate): PreflightLine[] {
  const fact = (label: string, description: string): PreflightLine => ({ kind: "fact", label, description });
  const lines = [
    fact(
      t("Size"),
      t(
        "{0} to {1} parameters, {2} to {3}",
        formatCount(preflight.parametersBefore),
        formatCount(preflight.parametersAfter),
        formatBytes(preflight.bytesBefore),
        formatBytes(preflight.bytesAfter),
      ),
    ),
    fact(
      t("Time"),
      t("about {0}", formatDuration(preflight.seconds)) +
        preflight.stages.map(({ stage, seconds }) => ` · ${stage} ${formatDuration(seconds)}`).join(""),
    ),
    fact(
      t("Memory"),
      t(
        "peak {0} of a budget of {1}",
        formatBytes(preflight.peakMemoryBytes),
        formatBytes(preflight.memoryBudgetBytes),
      ),
    ),
    fact(
      t("Disk"),
      t("{0} needed, {1} free", formatBytes(preflight.diskNeededBytes), formatBytes(preflight.diskFreeBytes)),
    ),
    ...(preflight.trained
      ? [
          fact(
            t("Trains"),
            t(
              "{0} numbers, scope {1}: {2}",
              formatCount(preflight.trained.parameters),
              preflight.trained.scope,
              preflight.trained.tensors.join(", "),
            ),
          ),
        ]
      : []),
    fact(t("Output"), recipe.output),
  ];
  const compared = recipe.compress !== undefined || recipe.calibrate !== undefined;
  const unmeasured =
    compared && recipe.data.evaluation === undefined
      ? [
          t(
            "No held-out text: there will be no before/after comparison. Put an evaluation.jsonl beside the text, or name one in the recipe",
          ),
        ]
      : [];
  return [
    ...lines,
    ...[...preflight.warnings, ...unmeasured].map((message): PreflightLine => ({
      kind: "warning",
      label: t("Warning"),
      description: message,
    })),
    ...preflight.refusals.map(({ message, code }): PreflightLine => ({
      kind: "refusal",
      label: t("Cannot start"),
      description: `${message} (${code})`,
    })),
  ];
}
