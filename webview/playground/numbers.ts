import type { PlaygroundData, PlaygroundScore } from "../../src/protocol/playground";
import { decimal, percent } from "../common/format";
import type { TableModel } from "../common/tableModel";
import { plainLabel, visibleSpaces } from "../common/text";
import { t } from "../common/translate";
import type { TextScores } from "./colouring";

/** "17 (62 %), 3 (38 %)", with the teacher's numbers behind those that differ. */
export function expertsOf(routing: PlaygroundScore["routing"], token: number): string {
  if (!routing) return "";
  const k = routing.numExpertsPerToken;
  return routing.experts
    .slice(token * k, (token + 1) * k)
    .map((expert, slot) => {
      const stands = routing.teacherExperts?.[expert];
      const whose = stands ? ` = ${t("teacher's {0}", stands.join("+"))}` : "";
      return `${expert}${whose} (${percent(routing.weights[token * k + slot]!)})`;
    })
    .join(", ");
}

/** All numbers of a token in a line, for tooltip and screen reader. */
export function describeToken(text: TextScores, token: number, names: readonly string[], author: number): string {
  const parts = text.models.flatMap(({ nll, kl }, m) => {
    const lines = [t("−ln p {0}: {1}", names[m]!, decimal(nll[token]!, 3))];
    if (kl) lines.push(t("KL {0}: {1}", names[m]!, decimal(kl[token]!, 3)));
    return lines;
  });
  const experts = expertsOf(text.models[author]?.routing ?? null, token);
  if (experts !== "") parts.push(t("experts {0}", experts));
  return `${plainLabel(visibleSpaces(text.pieces[token]!), 60)}: ${parts.join("; ")}`;
}

/** The numbers of a response as a table: a row a token, columns by model. */
export function responseTable(
  text: TextScores,
  names: readonly string[],
  author: number,
  layer: number | null,
): TableModel {
  const columns: { label: string; number: boolean; cell: (token: number) => string | number | null }[] = [
    { label: t("Token"), number: false, cell: (token) => visibleSpaces(text.pieces[token]!) },
  ];
  for (const [m, { nll, kl }] of text.models.entries()) {
    columns.push({ label: t("−ln p {0} (nats)", names[m]!), number: true, cell: (token) => nll[token]! });
    if (kl) columns.push({ label: t("KL {0} (nats)", names[m]!), number: true, cell: (token) => kl[token]! });
  }
  for (const [m, { routing }] of text.models.entries()) {
    if (routing)
      columns.push({
        label: t("Experts {0}, layer {1}", names[m]!, layer ?? 0),
        number: false,
        cell: (token) => expertsOf(routing, token),
      });
  }
  return {
    caption: t("Tokens of the response of {0}", names[author]!),
    columns: [
      { label: "#", format: String },
      ...columns.map(({ label, number }) => (number ? { label, format: (v: number | null) => decimal(v) } : { label })),
    ],
    rowCount: text.pieces.length,
    cell: (row, column) => (column === 0 ? row : columns[column - 1]!.cell(row)),
  };
}

/** Names of the models as columns and tooltips have them. */
export function namesOf({ models }: PlaygroundData): string[] {
  return models.map(({ name }) => plainLabel(name, 40));
}
