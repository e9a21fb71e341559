import type { MetricsLine } from "../../src/protocol/metrics";
import type { CalibrationPanelData } from "../../src/protocol/panels";

/**
 * Adds streamed lines to what is shown. A step that comes again replaces the earlier one: a resumed run repeats the
 * updates after its last saved state.
 */
export function mergeMetrics(data: CalibrationPanelData, lines: readonly MetricsLine[]): CalibrationPanelData {
  const updates = new Map(data.updates.map((update) => [update.step, update]));
  const heldOut = new Map(data.heldOut.map((evaluation) => [evaluation.step, evaluation]));
  let { bestStep } = data;
  for (const line of lines) {
    if (line.kind === "update") {
      const { step, loss, learningRate, gradientNorm } = line;
      updates.set(step, { step, loss, learningRate, gradientNorm });
    } else if (line.kind === "held-out") {
      const { step, kl, nll, best } = line;
      heldOut.set(step, { step, kl, nll, best });
      if (best) bestStep = step;
    }
  }
  const byStep = (a: { step: number }, b: { step: number }): number => a.step - b.step;
  return {
    ...data,
    updates: [...updates.values()].sort(byStep),
    heldOut: [...heldOut.values()].sort(byStep),
    bestStep,
  };
}
