import type { MetricsLine } from "../../protocol/metrics";
import type { CalibrationPanelData } from "../../protocol/panels";

/** The lines that `data` does not hold yet: those that came while it was being read and are younger than what it has. */
export function linesBehind(
  data: Pick<CalibrationPanelData, "updates" | "heldOut">,
  lines: MetricsLine[],
): MetricsLine[] {
  const lastUpdate = data.updates.at(-1)?.step ?? 0;
  const lastEvaluation = data.heldOut.at(-1)?.step ?? -1;
  return lines.filter((line) => {
    if (line.kind === "update") return line.step > lastUpdate;
    return line.kind === "resources" || line.step > lastEvaluation;
  });
}
