import { Figure } from "./charts/figure";
import { heatmap } from "./charts/heatmap";
import type { HeatmapSpec } from "./charts/heatmapSpec";
import { matrixTable } from "./charts/chartTables";
import { minus, sharedScale, type OtherMap } from "./compareScale";
import { element } from "./dom";
import type { PageServices } from "./page";
import { Segments } from "./segments";
import { t } from "./translate";

const modes = ["beside", "difference"] as const;
type Mode = (typeof modes)[number];

export interface MapContent {
  title: string;
  note: string | null;
  spec: HeatmapSpec;
}

/** A heatmap, and where runs are compared the same of the others: beside it on one scale, or what this run has more. */
export class ComparedMap {
  readonly element: HTMLElement;
  private readonly main: Figure<HeatmapSpec>;
  private readonly others: Figure<HeatmapSpec>[] = [];
  private readonly maps = element("div", { class: "figures" });
  private readonly mode: Segments<Mode>;
  private readonly reason = element("p", { class: "muted", hidden: true });
  private redraw: () => void = () => undefined;

  constructor(
    private readonly id: string,
    private readonly services: PageServices,
  ) {
    this.main = new Figure(id, heatmap, services);
    this.mode = new Segments(
      t("Other run"),
      [
        { value: "beside", label: t("Beside") },
        { value: "difference", label: t("Difference") },
      ],
      (value) => {
        services.persisted.set("compareMode", value);
        this.redraw();
      },
    );
    this.maps.append(this.main.element);
    const toolbar = element("div", { class: "toolbar", "data-compare": true }, this.mode.element);
    this.element = element("div", {}, toolbar, this.reason, this.maps);
    this.mode.element.hidden = true;
  }

  showEmpty(title: string, reason: string): void {
    this.hideOthers(0);
    this.mode.element.hidden = true;
    this.main.element.hidden = false;
    this.main.showEmpty(title, reason);
  }

  show(content: MapContent, others: readonly OtherMap[] = []): void {
    this.redraw = () => {
      this.show(content, others);
    };
    const { spec } = content;
    const fitting = others.every((other) => fits(spec, other));
    const available = fitting ? modes : (["beside"] as const);
    const mode = this.services.persisted.choice<Mode>("compareMode", available) ?? "beside";
    this.mode.element.hidden = others.length === 0;
    this.mode.show(mode, available);
    this.reason.hidden = fitting;
    this.reason.textContent = fitting ? "" : t("The runs have other layers or experts: no difference can be shown.");
    const isDifference = others.length > 0 && mode === "difference";
    this.main.element.hidden = isDifference;
    const scaled = { ...spec, colours: { ...spec.colours, ...sharedScale(spec, others) } };
    if (!isDifference) {
      const note =
        others.length > 0
          ? [content.note, t("One colour scale for all runs.")].filter(Boolean).join(" ")
          : content.note;
      this.draw(this.main, { ...content, note, spec: others.length > 0 ? scaled : spec });
    }
    for (const [i, other] of others.entries()) {
      const figure = (this.others[i] ??= this.another(i));
      figure.element.hidden = false;
      this.draw(figure, isDifference ? difference(content, other) : beside(content.title, scaled, other));
    }
    this.hideOthers(others.length);
  }

  private draw(figure: Figure<HeatmapSpec>, { title, note, spec }: MapContent): void {
    figure.show({ title, note, spec, table: matrixTable(spec) });
  }

  private another(i: number): Figure<HeatmapSpec> {
    const figure = new Figure(`${this.id}-${i + 2}`, heatmap, this.services);
    this.maps.append(figure.element);
    return figure;
  }

  private hideOthers(from: number): void {
    for (const figure of this.others.slice(from)) figure.element.hidden = true;
  }
}

function fits(spec: HeatmapSpec, other: OtherMap): boolean {
  const same = (a: readonly string[], b: readonly string[]) => a.length === b.length && a.every((x, i) => x === b[i]);
  return same(spec.rows.labels, other.rows.labels) && same(spec.columns.labels, other.columns.labels);
}

function beside(title: string, spec: HeatmapSpec, { name, values, rows, columns }: OtherMap): MapContent {
  const selected = spec.selected && {
    row: rows.labels.indexOf(spec.rows.labels[spec.selected.row] ?? ""),
    column:
      spec.selected.column === null ? null : columns.labels.indexOf(spec.columns.labels[spec.selected.column] ?? ""),
  };
  const isThere = selected !== null && selected.row >= 0 && selected.column !== -1;
  const { groups: _groups, marked: _marked, onSelect: _onSelect, ...common } = spec;
  return {
    title: `${name}: ${title}`,
    note: null,
    spec: { ...common, values, rows, columns, selected: isThere ? selected : null },
  };
}

/** This run minus the other. */
function difference({ title, spec }: MapContent, { name, values }: OtherMap): MapContent {
  const { min: _min, max: _max, logMin: _logMin, log: _log, ...colours } = spec.colours;
  return {
    title: `${title}, minus ${name}`,
    note: t("Orange: more than in the other run; purple: less."),
    spec: {
      ...spec,
      values: minus(spec.values, values),
      quantity: t("difference of {0}", spec.quantity),
      colours: { ...colours, diverging: true },
      nullMeaning: t("no value in one of the runs"),
    },
  };
}
