import type { PageContext, Selection } from "../../src/protocol/pageMessages";
import type { RoutingPanelData } from "../../src/protocol/panels";
import { Figure } from "../common/charts/figure";
import type { HeatmapSpec } from "../common/charts/heatmapSpec";
import { lineChart, type LineSpec } from "../common/charts/lineChart";
import { seriesTable } from "../common/charts/chartTables";
import { ComparedMap } from "../common/comparedMap";
import { ExpertPanel } from "../common/expertPanel";
import { element } from "../common/dom";
import { count, decimal } from "../common/format";
import type { OtherRun, PageServices, View } from "../common/page";
import { plainLabel } from "../common/text";
import { Select, Toggle } from "../common/toolkit";
import { untrusted } from "../common/untrusted";
import {
  cellMeasureNames,
  cellMeasures,
  cellValues,
  layerMeasures,
  neverUsedText,
  approximationText,
  type CellMeasure,
} from "./measures";
import { t } from "../common/translate";

/** Layers x experts utilisation, and what it means by layer; by domain where the text has domains. */
export class RoutingView implements View<"routing"> {
  readonly element: HTMLElement;
  private data: RoutingPanelData | undefined;
  private others: readonly OtherRun<"routing">[] = [];
  private selection: Selection | null = null;
  private readonly subtitle = element("p", { class: "muted" });
  private readonly coverage = element("div", { class: "notice", "data-coverage": true });
  private readonly measure: Select<CellMeasure>;
  private readonly domain: Select<string>;
  private readonly difference: Toggle;
  private readonly map: ComparedMap;
  private readonly expert: ExpertPanel;
  private readonly lines: Figure<LineSpec>[];

  constructor(private readonly services: PageServices) {
    const { persisted } = services;
    const redraw = (key: string) => (value: string | number | boolean) => {
      persisted.set(key, value);
      this.draw();
    };
    this.measure = new Select<CellMeasure>(t("Measure"), redraw("measure"));
    this.domain = new Select<string>(t("Domain"), redraw("domain"));
    this.difference = new Toggle(t("Difference to all domains"), persisted.flag("difference"), redraw("difference"));
    const log = new Toggle(t("Logarithmic colours"), persisted.flag("log"), redraw("log"));
    this.map = new ComparedMap("utilisation", services);
    this.expert = new ExpertPanel(services, (selection) => {
      this.choose(selection);
    });
    this.lines = layerMeasures.map(({ id }) => new Figure(id, lineChart, services));
    const controls = [this.measure, this.domain, this.difference, log].map((control) => control.element);
    this.element = element(
      "div",
      {},
      this.subtitle,
      this.coverage,
      element("div", { class: "toolbar" }, ...controls),
      element("div", { class: "beside" }, this.map.element, this.expert.element),
      element("div", { class: "figures" }, ...this.lines.map((figure) => figure.element)),
    );
    services.onSettings(() => {
      this.draw();
    });
  }

  show(data: RoutingPanelData, context: PageContext, others: readonly OtherRun<"routing">[]): void {
    this.data = data;
    this.others = others;
    this.measure.set(
      cellMeasureNames.map((value) => ({ value, label: cellMeasures[value].label })),
      this.services.persisted.choice("measure", cellMeasureNames),
    );
    this.domain.set(
      ["", ...data.domains].map((value) => ({ value, label: value === "" ? t("All domains") : plainLabel(value) })),
      this.services.persisted.choice("domain", ["", ...data.domains]),
    );
    this.subtitle.replaceChildren(
      untrusted(data.checkpoint),
      t(
        ": {0} tokens profiled, {1} experts in {2} MoE layers, ",
        count(data.tokens),
        data.numExperts,
        data.layers.length,
      ) + t("{0} selected per token", data.numExpertsPerToken),
    );
    this.showCoverage(data);
    this.expert.reload(context);
    this.draw();
  }

  select(selection: Selection): void {
    this.selection = selection;
    this.expert.follow(selection);
    this.draw();
  }

  private showCoverage(data: RoutingPanelData): void {
    const missing = data.neverUsed.length;
    const all = data.numExperts * data.layers.length;
    this.coverage.classList.toggle("warning", missing > 0 || data.preview !== undefined);
    const mark =
      data.preview === undefined ? [] : [element("strong", {}, approximationText(data.preview)), element("br")];
    if (missing === 0) {
      this.coverage.replaceChildren(
        ...mark,
        t("Coverage: all {0} experts were used by the {1} profiled tokens.", count(all), count(data.tokens)),
      );
      return;
    }
    this.coverage.replaceChildren(
      ...mark,
      element("strong", {}, t("Coverage: {0} of {1} experts were never used", count(missing), count(all))),
      t(
        " by the {0} profiled tokens. Nothing is known about them; more or other text may reach them. ",
        count(data.tokens),
      ),
      t("Never used: {0}.", neverUsedText(data)),
    );
  }

  private draw(): void {
    const { data } = this;
    if (!data) return;
    const { persisted } = this.services;
    const measure = persisted.choice("measure", cellMeasureNames) ?? "utilisation";
    const name = persisted.choice("domain", ["", ...data.domains]) ?? "";
    const overall = data.byDomain[""];
    const domain = data.byDomain[name];
    // Token counts of a part and of the whole differ by how much text there is, which says nothing about routing.
    const comparable = name !== "" && measure !== "frequency" && overall !== undefined;
    this.difference.disabled = !comparable;
    const difference = comparable && persisted.flag("difference");
    const place = name === "" ? t("all domains") : `domain ${plainLabel(name)}`;
    const { label, quantity, format } = cellMeasures[measure];
    const title = difference ? t("{0}, {1} minus all domains", label, place) : `${label}, ${place}`;
    if (!domain) {
      this.map.showEmpty(title, t("The profile holds nothing for this domain."));
      for (const [i, figure] of this.lines.entries())
        figure.showEmpty(layerMeasures[i]!.title, t("The profile holds nothing for this domain."));
      return;
    }
    const spec: HeatmapSpec = {
      ...axesOf(data),
      values: cellValues(domain, difference ? overall : null, measure),
      quantity: difference ? t("difference of {0}", quantity) : quantity,
      format,
      colours: {
        colours: this.services.colourScale,
        diverging: difference,
        log: !difference && persisted.flag("log"),
        ...(difference || measure === "meanRoutingWeight" ? {} : { min: 0 }),
      },
      nullMeaning: measure === "meanRoutingWeight" || difference ? t("never used, so no value") : null,
      selected: this.selected(data),
      onSelect: (row, column) => {
        this.choose({ layer: data.layers[row]!, expert: column });
        this.expert.open({ layer: data.layers[row]!, expert: column });
      },
    };
    const note = t(
      "{0} tokens. With even load every expert has a share of {1}.",
      count(domain.tokens),
      format0(1 / data.numExperts),
    );
    const others = this.others.flatMap((other) => {
      const theirs = other.data.byDomain[name];
      if (!theirs) return [];
      return [{ ...other, domain: theirs, all: other.data.byDomain[""] }];
    });
    this.map.show(
      { title, note: measure === "utilisation" ? note : `${count(domain.tokens)} tokens.`, spec },
      others.map((other) => ({
        name: other.name,
        values: cellValues(other.domain, difference ? (other.all ?? null) : null, measure),
        ...axesOf(other.data),
      })),
    );
    const runs = [
      { name: null, layers: domain.layers },
      ...others.map((o) => ({ name: o.name, layers: o.domain.layers })),
    ];
    for (const [i, figure] of this.lines.entries()) this.drawLines(figure, layerMeasures[i]!, runs, place);
  }

  private drawLines(
    figure: Figure<LineSpec>,
    measure: (typeof layerMeasures)[number],
    runs: readonly { name: string | null; layers: RoutingPanelData["byDomain"][string]["layers"] }[],
    place: string,
  ): void {
    const spec: LineSpec = {
      x: { title: t("Layer") },
      y: { title: measure.unit, ...measure.range },
      series: runs.flatMap(({ name, layers }) =>
        measure.series.flatMap(({ label, value }) => {
          const points = layers.flatMap((layer) => {
            const y = value(layer);
            return y === null ? [] : [{ x: layer.layer, y }];
          });
          return points.length > 0 ? [{ label: name === null ? label : `${label}, ${name}`, points }] : [];
        }),
      ),
      format: (value) => decimal(value, 4),
      bars: measure.bars === true,
      selectedX: this.selection?.layer ?? null,
      onSelect: (layer) => {
        this.choose({ layer, expert: null });
      },
    };
    const title = `${measure.title}, ${place}`;
    if (spec.series.length === 0) {
      figure.showEmpty(title, t("This was not recorded: traces of other programs hold only which experts were used."));
      return;
    }
    figure.showLater({ title, note: measure.note, spec, table: seriesTable(title, spec) });
  }

  private selected(data: RoutingPanelData): HeatmapSpec["selected"] {
    const row = this.selection ? data.layers.indexOf(this.selection.layer) : -1;
    return row < 0 ? null : { row, column: this.selection!.expert };
  }

  private choose(selection: Selection): void {
    this.services.select(selection);
    this.select(selection);
  }
}

function axesOf({ layers, numExperts }: RoutingPanelData): Pick<HeatmapSpec, "rows" | "columns"> {
  return {
    rows: { title: t("Layer"), labels: layers.map(String) },
    columns: { title: t("Expert"), labels: Array.from({ length: numExperts }, (_, i) => String(i)) },
  };
}

function format0(share: number): string {
  return cellMeasures.utilisation.format(share);
}
