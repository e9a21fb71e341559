import type { DenseStudentFile } from "../../protocol/denseStudent";
import { formatNumber, formatPercent } from "../../protocol/quantities";

/** What a dense student is made of, layer by layer, and the error that its parts leave. */
export function denseTable({ layers, build: { choose, scales } }: DenseStudentFile) {
  return {
    title: "Dense student",
    about: `Experts chosen by ${choose}, scales ${scales}; the residual is the squared error that is left of the routed experts' output, as a share of its square.`,
    head: ["Layer", "Experts", "Scales", "Residual"],
    rows: Object.entries(layers).map(([layer, { experts, scales: factors, residual }]) => [
      ...[layer, experts.join(", "), factors.map(formatNumber).join(", "), formatPercent(residual)],
    ]),
  };
}
