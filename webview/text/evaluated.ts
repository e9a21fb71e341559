import type { ColourScale } from "../../src/protocol/pageMessages";
import type { EvaluatedText } from "../../src/protocol/panels";
import type { Rgb } from "../../src/protocol/colourScales";
import { decimal } from "../common/format";
import type { TableModel } from "../common/tableModel";
import { plainLabel, visibleSpaces } from "../common/text";
import { scaleColour, textOn } from "../common/tokenColours";
import type { ShownToken } from "../common/tokenText";
import { t } from "../common/translate";

/** What tokens of the evaluated text are coloured by. */
export type EvaluatedColouring = "klAfter" | "klBefore" | "change" | "loss";

interface Measure {
  id: EvaluatedColouring;
  label: string;
  /** Of the table's column. */
  short: string;
  /** [T] nats */
  values: readonly (number | null)[];
}

/** Measures that the run has, the most telling first. */
export function measuresOf({ before, after }: EvaluatedText): Measure[] {
  const student = after ?? before;
  const change = after?.kl && before?.kl ? difference(after.kl, before.kl) : null;
  return [
    ...(after?.kl
      ? [
          {
            id: "klAfter" as const,
            label: t("KL to the teacher after calibration"),
            short: t("KL after"),
            values: after.kl,
          },
        ]
      : []),
    ...(before?.kl
      ? [
          {
            id: "klBefore" as const,
            label: after ? t("KL to the teacher before calibration") : t("KL to the teacher"),
            short: after ? t("KL before") : t("KL"),
            values: before.kl,
          },
        ]
      : []),
    ...(change
      ? [{ id: "change" as const, label: t("Change of KL by calibration"), short: t("Change of KL"), values: change }]
      : []),
    ...(student
      ? [{ id: "loss" as const, label: t("Loss of the student"), short: t("Loss"), values: student.nll }]
      : []),
  ];
}

/** One sequence as coloured tokens; the colours of all sequences, before and after calibration, mean the same. */
export function readEvaluated(
  text: EvaluatedText,
  sequence: number,
  chosen: EvaluatedColouring,
  scale: ColourScale,
): { tokens: ShownToken[]; note: string; table: TableModel } {
  const measures = measuresOf(text);
  const measure = measures.find(({ id }) => id === chosen) ?? measures[0]!;
  const isKl = (id: EvaluatedColouring): boolean => id === "klAfter" || id === "klBefore";
  const alike = isKl(measure.id) ? measures.filter(({ id }) => isKl(id)) : [measure];
  const end = mostOf(alike.flatMap(({ values }) => values));
  const positions = positionsOf(text, sequence);
  const isSigned = measure.id === "change";
  const colourOf = (value: number): Rgb =>
    isSigned ? scaleColour(0.5 + value / end / 2, "diverging") : scaleColour(value / end, scale);
  const tokens = positions.map((position) => {
    const value = measure.values[position] ?? null;
    const colour = value === null ? null : colourOf(value);
    return {
      text: plainLabel(visibleSpaces(text.tokens[position]!), 60),
      background: colour ? `rgb(${colour.join(", ")})` : "transparent",
      colour: colour ? textOn(colour) : "inherit",
      marked: false,
      description: describe(text, measures, position),
    };
  });
  const known = positions.flatMap((position) => measure.values[position] ?? []);
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  const legend = isSigned
    ? t(
        "Orange: further from the teacher than before calibration; violet: nearer. The ends are {0} nats.",
        decimal(end, 3),
      )
    : t("From 0 (dark) to {0} nats and more.", decimal(end, 3));
  const note = [
    t("Of each token: how it was predicted from those before it."),
    legend,
    known.length > 0 ? t("Mean of this sequence: {0} nats.", decimal(mean, 3)) : "",
  ];
  return { tokens, note: note.filter(Boolean).join(" "), table: tableOf(text, measures, positions) };
}

/** Positions of a sequence's tokens, without padding. */
function positionsOf({ tokens, sequenceLength }: EvaluatedText, sequence: number): number[] {
  const start = sequence * sequenceLength;
  const length = Math.max(0, Math.min(sequenceLength, tokens.length - start));
  return Array.from({ length }, (_, i) => start + i).filter((position) => tokens[position] !== "");
}

/** What 98 % of the tokens stay below: a few are far above the others, whose differences would not be seen. */
function mostOf(values: readonly (number | null)[]): number {
  const sizes = values.flatMap((value) => (value === null ? [] : [Math.abs(value)])).sort((a, b) => a - b);
  return Math.max(sizes[Math.floor(0.98 * (sizes.length - 1))] ?? 0, 1e-9);
}

function difference(after: readonly (number | null)[], before: readonly (number | null)[]): (number | null)[] {
  return after.map((value, at) => {
    const other = before[at] ?? null;
    return value === null || other === null ? null : value - other;
  });
}

function describe({ tokens }: EvaluatedText, measures: readonly Measure[], position: number): string {
  const figures = measures.flatMap(({ label, values }) => {
    const value = values[position] ?? null;
    return value === null ? [] : [`${label} ${decimal(value, 3)}`];
  });
  const token = plainLabel(visibleSpaces(tokens[position]!), 60);
  return figures.length === 0
    ? t("{0}: the first token of its sequence, which nothing predicts", token)
    : `${token}: ${figures.join("; ")} ${t("nats")}`;
}

function tableOf({ tokens }: EvaluatedText, measures: readonly Measure[], positions: readonly number[]): TableModel {
  return {
    caption: t("Tokens of the evaluation text"),
    columns: [
      { label: t("Position"), format: String },
      { label: t("Token") },
      ...measures.map(({ short }) => ({
        label: `${short} (${t("nats")})`,
        format: (value: number | null) => decimal(value),
      })),
    ],
    rowCount: positions.length,
    cell: (row, column) => {
      const position = positions[row]!;
      if (column === 0) return position;
      return column === 1 ? visibleSpaces(tokens[position]!) : (measures[column - 2]!.values[position] ?? null);
    },
  };
}

/** The whole text as a table, for exports. */
export function evaluatedTable(text: EvaluatedText): TableModel {
  const positions = text.tokens.map((_, position) => position).filter((position) => text.tokens[position] !== "");
  return tableOf(text, measuresOf(text), positions);
}
