import type { TextPanelData } from "../../src/protocol/panels";
import { decimal, percent } from "../common/format";
import type { TableModel } from "../common/tableModel";
import { plainLabel, visibleSpaces } from "../common/text";
import { t } from "../common/translate";

/** False: padding. */
export function isToken({ experts, numExpertsPerToken: k }: TextPanelData, position: number): boolean {
  return experts[position * k]! >= 0;
}

/** Positions of a sequence's tokens, without padding. */
export function profiledPositions(data: TextPanelData, sequence: number): number[] {
  const start = sequence * data.sequenceLength;
  const length = Math.max(0, Math.min(data.sequenceLength, data.tokens.length - start));
  return Array.from({ length }, (_, i) => start + i).filter((position) => isToken(data, position));
}

/** The experts of a token, the largest routing weight first. */
export function expertsAt({ experts, numExpertsPerToken: k }: TextPanelData, position: number): number[] {
  return experts.slice(position * k, (position + 1) * k);
}

/** A token in one line, for tooltip and screen reader. */
export function describe(data: TextPanelData, position: number): string {
  const k = data.numExpertsPerToken;
  const shares = expertsAt(data, position).map(
    (expert, s) => `${expert} (${percent(data.weights[position * k + s]!)})`,
  );
  const entropy = t("entropy {0} nats", decimal(data.entropy[position]!, 3));
  return `${plainLabel(visibleSpaces(data.tokens[position]!), 60)}: ${t("experts {0}", shares.join(", "))}; ${entropy}`;
}

/** These tokens as a table. */
export function tableOf(data: TextPanelData, positions: readonly number[]): TableModel {
  const k = data.numExpertsPerToken;
  const cells: ((position: number) => string | number | null)[] = [
    (position) => position,
    (position) => visibleSpaces(data.tokens[position]!),
    (position) => expertsAt(data, position).join(" "),
    (position) => data.weights[position * k]!,
    (position) => data.entropy[position]!,
  ];
  return {
    caption: t("Tokens in layer {0}", data.layer),
    columns: [
      { label: t("Position"), format: String },
      { label: t("Token") },
      { label: t("Experts") },
      { label: t("Largest routing weight"), format: (value) => decimal(value) },
      { label: t("Entropy (nats)"), format: (value) => decimal(value) },
    ],
    rowCount: positions.length,
    cell: (row, column) => cells[column]!(positions[row]!),
  };
}
