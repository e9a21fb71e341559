import type { PlanEdit, PlanView } from "../../src/protocol/panels";
import type { Selection } from "../../src/protocol/pageMessages";
import { element } from "../common/dom";
import { facts } from "../common/facts";
import { decimal } from "../common/format";
import { button, Select } from "../common/toolkit";
import { t } from "../common/translate";

/** What the plan says about the selected cell, and what can be done with it. */
export class CellPanel {
  readonly element = element("section", { "data-cell": true, hidden: true });
  private readonly heading = element("h2", {});
  private readonly list = element("dl", { class: "facts" });
  private readonly buttons = element("div", { class: "toolbar" });
  private readonly target: Select<number>;
  private joined: number | null = null;

  constructor(private readonly edit: (edit: PlanEdit) => void) {
    this.target = new Select(t("Group of expert"), (dominant) => {
      this.joined = dominant;
    });
    this.element.append(this.heading, this.list, this.buttons);
  }

  show(view: PlanView, selection: Selection | null, readOnly: boolean): void {
    const row = selection ? view.layers.indexOf(selection.layer) : -1;
    const column = selection?.expert ?? -1;
    const map = view.maps[0];
    this.element.hidden = !map || row < 0 || column < 0 || column >= map.columns.length;
    if (this.element.hidden || !selection || !map) return;
    const cell = row * map.columns.length + column;
    this.heading.textContent = `${t("Layer {0}", selection.layer)}, ${map.columnTitle.toLowerCase()} ${map.columns[column]!}`;
    const isCrossed = map.crossed.includes(cell);
    facts(this.list, [
      ...(view.click === "keep" ? ([[t("Plan"), isCrossed ? map.crossedMeaning : t("kept")]] as const) : []),
      ...view.maps
        .filter(({ id }) => id !== "kept")
        .map(({ label, values, nullMeaning }) => {
          const value = values[cell] ?? null;
          return [label, value === null ? (nullMeaning ?? "–") : decimal(value)] as const;
        }),
      ...rankOf(view, row, column),
      ...this.groupFacts(view, row, column),
    ]);
    const place = { layer: selection.layer, expert: column };
    this.buttons.replaceChildren(...(readOnly ? [] : this.actions(view, row, place, isCrossed)));
  }

  private groupFacts({ groups }: PlanView, row: number, expert: number): (readonly [string, string])[] {
    const group = groups[row]?.find(({ members }) => members.includes(expert));
    if (!group) return [];
    return [
      [t("Group"), group.members.join(", ")],
      [t("Router row of"), t("expert {0}", group.dominant)],
    ];
  }

  private actions(
    { click, groups }: PlanView,
    row: number,
    place: { layer: number; expert: number },
    isCrossed: boolean,
  ): HTMLElement[] {
    const toggle = (label: string): HTMLElement =>
      button(label, () => {
        this.edit({ kind: "expert", ...place });
      });
    if (click === "keep") return [toggle(isCrossed ? t("Keep this expert") : t("Drop this expert"))];
    if (click === "bits") return [toggle(t("Next number of bits"))];
    if (click !== "group") return [];
    const own = groups[row]!.find(({ members }) => members.includes(place.expert));
    const others = groups[row]!.filter((group) => group !== own).map(({ dominant }) => dominant);
    if (this.joined === null || !others.includes(this.joined)) this.joined = others[0] ?? null;
    this.target.set(
      others.map((value) => ({ value, label: `${value}` })),
      this.joined ?? undefined,
    );
    const join = button(t("Move there"), () => {
      if (this.joined !== null) this.edit({ kind: "regroup", ...place, to: this.joined });
    });
    const alone = button(t("Take out of its group"), () => {
      this.edit({ kind: "regroup", ...place, to: null });
    });
    return [
      ...(others.length > 0 ? [this.target.element, join] : []),
      ...(own && own.members.length > 1 ? [alone] : []),
    ];
  }
}

/** Which place the score takes in its layer, the highest first. */
function rankOf({ maps, layers }: PlanView, row: number, column: number): (readonly [string, string])[] {
  const map = maps.find(({ id }) => id === "scores");
  if (!map || layers.length === 0) return [];
  const width = map.columns.length;
  const scores = map.values.slice(row * width, (row + 1) * width);
  const own = scores[column] ?? null;
  if (own === null) return [];
  const known = scores.filter((score): score is number => score !== null);
  const higher = known.filter((score) => score > own).length;
  return [[t("Place in its layer"), t("{0} of {1}, the highest score first", higher + 1, known.length)]];
}
