import type { PageContext, Selection } from "../../src/protocol/pageMessages";
import type { DivergenceData, DivergencePanelData } from "../../src/protocol/panels";
import { Figure } from "../common/charts/figure";
import type { HeatmapSpec } from "../common/charts/heatmapSpec";
import { lineChart, type LineSpec } from "../common/charts/lineChart";
import { seriesTable } from "../common/charts/chartTables";
import { ComparedMap } from "../common/comparedMap";
import { minus } from "../common/compareScale";
import { ExpertPanel } from "../common/expertPanel";
import { element } from "../common/dom";
import { decimal } from "../common/format";
import type { OtherRun, PageServices, View } from "../common/page";
import { Segments } from "../common/segments";
import { Toggle } from "../common/toolkit";
import { untrusted } from "../common/untrusted";
import { t } from "../common/translate";

const phases = ["after", "before", "difference"] as const;
type Phase = (typeof phases)[number];

const byLayer = [
  {
    id: "routingKl",
    title: t("Routing KL by layer"),
    unit: t("nats a token"),
    key: "routingKl",
    note: t("KL(teacher || student) of the routing distributions over the kept experts."),
  },
  {
    id: "l1",
    title: t("L1 distance of routing by layer"),
    unit: "L1 distance",
    key: "l1",
    note: t("Sum over experts of |teacher − student| routing probability, mean over tokens: 0 to 2."),
  },
  {
    id: "topKOverlap",
    title: t("Top-k overlap by layer"),
    unit: "overlap",
    key: "topKOverlap",
    note: t("Share of the teacher's top-k experts that the student also selects: 1 is full agreement."),
  },
] as const;

const diagnostic = t(
  "Routing KL is a diagnostic, not what Router KD minimises: it minimises the KL over the vocabulary. The two may part, since after experts left the best routing of the student is not the teacher's: routing KL can grow while KL to the teacher falls. The verdict goes by KL to the teacher.",
);

/** The student's routing against the teacher's, before and after calibration. */
export class DivergenceView implements View<"divergence"> {
  readonly element: HTMLElement;
  private data: DivergencePanelData | undefined;
  private others: readonly OtherRun<"divergence">[] = [];
  private selection: Selection | null = null;
  private readonly subtitle = element("p", {});
  private readonly mapping = element("p", { class: "muted", "data-mapping": true });
  private readonly phase: Segments<Phase>;
  private readonly log: Toggle;
  private readonly map: ComparedMap;
  private readonly expert: ExpertPanel;
  private readonly lines: Figure<LineSpec>[];

  constructor(private readonly services: PageServices) {
    this.phase = new Segments(
      t("Show"),
      [
        { value: "before", label: t("Before calibration") },
        { value: "after", label: t("After calibration") },
        { value: "difference", label: t("Difference") },
      ],
      (value) => {
        services.persisted.set("phase", value);
        this.draw();
      },
    );
    this.log = new Toggle(t("Logarithmic colours"), services.persisted.flag("log"), (value) => {
      services.persisted.set("log", value);
      this.draw();
    });
    this.map = new ComparedMap("kl", services);
    this.expert = new ExpertPanel(services, (selection) => {
      this.choose(selection);
    });
    this.lines = byLayer.map(({ id }) => new Figure(id, lineChart, services));
    this.element = element(
      "div",
      {},
      this.subtitle,
      this.mapping,
      element("p", { class: "muted", "data-diagnostic": true }, diagnostic),
      element("div", { class: "toolbar" }, this.phase.element, this.log.element),
      element("div", { class: "beside" }, this.map.element, this.expert.element),
      element("div", { class: "figures" }, ...this.lines.map((figure) => figure.element)),
    );
    services.onSettings(() => {
      this.draw();
    });
  }

  show(data: DivergencePanelData, context: PageContext, others: readonly OtherRun<"divergence">[]): void {
    this.data = data;
    this.others = others;
    this.expert.reload(context);
    this.subtitle.replaceChildren(t("Teacher "), untrusted(data.teacher), ", student ", untrusted(data.student));
    this.mapping.replaceChildren(
      t("Experts are on the teacher's axis. Mapping: "),
      untrusted(data.mapping.description, 300),
    );
    this.draw();
  }

  select(selection: Selection): void {
    this.selection = selection;
    this.expert.follow(selection);
    this.draw();
  }

  private draw(): void {
    const { data } = this;
    if (!data) return;
    const available = phases.filter((phase) =>
      phase === "difference" ? data.before && data.after : data[phase] !== null,
    );
    const phase = this.services.persisted.choice("phase", available);
    this.phase.show(phase ?? "after", available);
    // A logarithm has no place for values below zero.
    this.log.element.hidden = phase === "difference" || sharedRange([data.before, data.after]).min < 0;
    this.drawMap(data, phase);
    for (const [i, figure] of this.lines.entries()) this.drawLines(figure, byLayer[i]!, data);
  }

  private drawMap(data: DivergencePanelData, phase: Phase | undefined): void {
    if (!phase) {
      this.map.showEmpty(
        t("Routing KL by layer and expert"),
        t("Nothing was evaluated yet: the evaluate stage writes these numbers."),
      );
      return;
    }
    const titles: Record<Phase, string> = {
      before: t("Routing KL by layer and expert, before calibration"),
      after: t("Routing KL by layer and expert, after calibration"),
      difference: t("Change of routing KL by layer and expert, after minus before calibration"),
    };
    const difference = phase === "difference";
    // Contributions p log(p / q) to a KL may be negative; the scale then has 0 in its middle.
    const range = sharedRange([data.before, data.after]);
    const signed = difference || range.min < 0;
    const values = valuesOf(data, phase)!;
    const spec: HeatmapSpec = {
      ...axesOf(data),
      values,
      quantity: difference ? t("change of KL, nats a token") : t("KL contribution, nats a token"),
      format: (value) => decimal(value, 4),
      colours: difference
        ? { colours: this.services.colourScale, diverging: true }
        : {
            colours: this.services.colourScale,
            log: !signed && this.services.persisted.flag("log"),
            // The same ends before and after, so that the two pictures compare.
            ...range,
            diverging: signed,
          },
      nullMeaning: t("no such expert in the student"),
      selected: this.selected(data),
      onSelect: (row, column) => {
        this.choose({ layer: data.layers[row]!, expert: column });
        this.expert.open({ layer: data.layers[row]!, expert: column });
      },
    };
    const note = difference
      ? t("Orange: further from the teacher after calibration; purple: closer.")
      : data.before && data.after
        ? t("Before and after share one colour scale.")
        : null;
    this.map.show(
      { title: titles[phase], note, spec },
      this.others.flatMap(({ name, data: theirs }) => {
        const other = valuesOf(theirs, phase);
        return other ? [{ name, values: other, ...axesOf(theirs) }] : [];
      }),
    );
  }

  private drawLines(figure: Figure<LineSpec>, measure: (typeof byLayer)[number], data: DivergencePanelData): void {
    const runs = [{ name: null, data }, ...this.others];
    const series = runs.flatMap((run) =>
      (["before", "after"] as const).flatMap((phase) => {
        const measured = run.data[phase];
        if (!measured) return [];
        const points = measured.byLayer.map((layer) => ({ x: layer.layer, y: layer[measure.key] }));
        return [{ label: `${phase} calibration${run.name === null ? "" : `, ${run.name}`}`, points }];
      }),
    );
    if (series.length === 0) {
      figure.showEmpty(measure.title, t("Nothing was evaluated yet."));
      return;
    }
    const spec: LineSpec = {
      x: { title: t("Layer") },
      y: { title: measure.unit, ...(measure.key === "topKOverlap" ? { max: 1 } : { min: 0 }) },
      series,
      format: (value) => decimal(value, 4),
      selectedX: this.selection?.layer ?? null,
      onSelect: (layer) => {
        this.choose({ layer, expert: null });
      },
    };
    figure.showLater({ title: measure.title, note: measure.note, spec, table: seriesTable(measure.title, spec) });
  }

  private selected(data: DivergencePanelData): HeatmapSpec["selected"] {
    const row = this.selection ? data.layers.indexOf(this.selection.layer) : -1;
    return row < 0 ? null : { row, column: this.selection!.expert };
  }

  private choose(selection: Selection): void {
    this.services.select(selection);
    this.select(selection);
  }
}

/** What is drawn of a run in a phase; null where it was not measured. */
function valuesOf({ before, after }: DivergencePanelData, phase: Phase): (number | null)[] | null {
  if (phase === "difference") return before && after ? minus(after.kl.values, before.kl.values) : null;
  return (phase === "before" ? before : after)?.kl.values ?? null;
}

function axesOf({ layers, numExperts }: DivergencePanelData): Pick<HeatmapSpec, "rows" | "columns"> {
  return {
    rows: { title: t("Layer"), labels: layers.map(String) },
    columns: { title: t("Teacher expert"), labels: Array.from({ length: numExperts }, (_, i) => String(i)) },
  };
}

/** Contributions to a KL may be negative for single experts; the range covers both phases. */
function sharedRange(phases: (DivergenceData | null)[]): { min: number; max: number } {
  let min = 0;
  let max = 0;
  for (const phase of phases)
    for (const value of phase?.kl.values ?? []) {
      if (value === null) continue;
      min = Math.min(min, value);
      max = Math.max(max, value);
    }
  return { min, max };
}
