import type { TradeOffPanelData, TradeOffPoint } from "../../src/protocol/panels";
import { Figure } from "../common/charts/figure";
import { scatterChart, type ScatterPoint, type ScatterSeries, type ScatterSpec } from "../common/charts/scatterChart";
import { element } from "../common/dom";
import { bytes, decimal, parameters } from "../common/format";
import type { PageServices, View } from "../common/page";
import type { TableModel } from "../common/tableModel";
import { TableView } from "../common/tableView";
import { plainLabel } from "../common/text";
import { Select, Toggle } from "../common/toolkit";
import { costNames, costs, paretoFront, qualities, qualityNames, type Cost, type Quality } from "./measures";
import { t } from "../common/translate";

const stages = ["teacher", "before", "after"] as const;
const markers = { teacher: "star", before: "rectRot", after: "circle" } as const;
const stageLabels = { teacher: "teacher", before: t("before calibration"), after: t("after calibration") } as const;

/** Cost against quality over the runs that may be compared, with intervals and what calibration did to each. */
export class TradeOffView implements View<"tradeOff"> {
  readonly element: HTMLElement;
  private data: TradeOffPanelData | undefined;
  private readonly group: Select<string>;
  private readonly cost: Select<Cost>;
  private readonly quality: Select<Quality>;
  private readonly filters = element("div", { class: "toolbar", role: "group", "aria-label": t("Methods shown") });
  private readonly figure: Figure<ScatterSpec>;
  private readonly missing = element("p", { class: "muted" });
  private readonly tableHost = element(
    "section",
    { "data-table": "checkpoints" },
    element("h2", {}, t("Checkpoints measured alike")),
  );
  private table: TableView | undefined;
  private sorted = { column: -1, descending: false };

  constructor(private readonly services: PageServices) {
    const { persisted } = services;
    const keep =
      (key: string) =>
      (value: string | boolean): void => {
        persisted.set(key, value);
        this.draw();
      };
    this.group = new Select<string>(t("Measured on"), keep("group"));
    this.cost = new Select<Cost>(t("Cost"), keep("cost"));
    this.quality = new Select<Quality>(t("Quality"), keep("quality"));
    this.figure = new Figure(
      "tradeOff",
      scatterChart,
      services,
      t(
        "Left and right move between points, up and down between kinds of checkpoints, Enter opens the run's report; the table holds the same numbers.",
      ),
    );
    const logarithmic = (["cost", "quality"] as const).map(
      (name) => new Toggle(t("Log {0} axis", name), persisted.flag(`log-${name}`), keep(`log-${name}`)).element,
    );
    const toolbar = element(
      "div",
      { class: "toolbar" },
      this.group.element,
      this.cost.element,
      this.quality.element,
      ...logarithmic,
    );
    this.element = element("div", {}, toolbar, this.filters, this.figure.element, this.missing, this.tableHost);
  }

  show(data: TradeOffPanelData): void {
    this.data = data;
    const { persisted } = this.services;
    const groups = [...new Map(data.points.map(({ group }) => [group.id, group.label]))];
    this.group.set(
      groups.map(([value, label]) => ({ value, label: plainLabel(label, 80) })),
      this.chosenGroup(),
    );
    this.cost.set(
      costNames.map((value) => ({ value, label: costs[value].label })),
      persisted.choice("cost", costNames),
    );
    this.quality.set(
      qualityNames.map((value) => ({ value, label: qualities[value].label })),
      persisted.choice("quality", qualityNames),
    );
    this.filters.replaceChildren(
      ...methodsOf(data.points).map((method) => {
        const shown = !persisted.flag(`hide-${method}`);
        const toggle = new Toggle(plainLabel(method, 40), shown, (on) => {
          persisted.set(`hide-${method}`, !on);
          this.draw();
        });
        return toggle.element;
      }),
    );
    this.draw();
  }

  private chosenGroup(): string {
    const ids = this.data?.points.map(({ group }) => group.id) ?? [];
    return this.services.persisted.choice("group", ids) ?? "";
  }

  private draw(): void {
    const { data } = this;
    if (!data) return;
    const { persisted } = this.services;
    const cost = costs[persisted.choice("cost", costNames) ?? "bytes"];
    const quality = qualities[persisted.choice("quality", qualityNames) ?? "kl"];
    const comparable = data.points.filter(({ group }) => group.id === this.chosenGroup());
    const methods = methodsOf(data.points);
    const visible = comparable.filter(({ method }) => !persisted.flag(`hide-${method ?? ""}`));
    this.showTable(visible);
    const title = `${quality.label} against ${cost.label.toLowerCase()}`;
    const log = { x: persisted.flag("log-cost"), y: persisted.flag("log-quality") };
    const place = (point: TradeOffPoint): ScatterPoint | null => {
      const x = cost.value(point);
      const y = quality.value(point);
      if (x === null || y === null || (log.x && x <= 0) || (log.y && y <= 0)) return null;
      const short = point.stage === "teacher" ? "teacher" : [point.method, point.keep].filter(Boolean).join(" ");
      const label = plainLabel(point.label, 60);
      return { x, y, halfWidth: quality.halfWidth(point), label, short: plainLabel(short, 30) };
    };
    const placed = new Map(
      visible.flatMap((point) => {
        const at = place(point);
        return at ? [[point, at] as const] : [];
      }),
    );
    if (placed.size === 0) {
      this.figure.showEmpty(
        title,
        t("No checkpoint has both numbers yet. They come from the evaluate stage of a run."),
      );
      this.missing.textContent = "";
      return;
    }
    const drawn: { series: ScatterSeries; from: TradeOffPoint[] }[] = [null, ...methods].flatMap((method, i) =>
      stages.flatMap((stage) => {
        const from = [...placed.keys()].filter((p) => p.method === method && p.stage === stage);
        if (from.length === 0) return [];
        const label = method === null ? "teacher" : `${plainLabel(method, 40)}, ${stageLabels[stage]}`;
        // The teacher has the text's colour, which is the fourth; methods take the others in turn.
        const colour = i === 0 ? 3 : i - 1 + (i > 3 ? 1 : 0);
        return [{ series: { label, colour, marker: markers[stage], points: from.map((p) => placed.get(p)!) }, from }];
      }),
    );
    const spec: ScatterSpec = {
      x: { title: cost.title, format: cost.format, binary: "binary" in cost, log: log.x },
      y: {
        title: quality.title,
        format: quality.format,
        log: log.y,
        ...("min" in quality ? { min: quality.min } : {}),
      },
      series: drawn.map(({ series }) => series),
      arrows: arrowsBetween(visible, placed),
      front: paretoFront([...placed.values()], "higherIsBetter" in cost),
      open: (series, index) => {
        this.openRun(drawn[series]?.from[index]);
      },
    };
    this.missing.textContent = notDrawn(
      visible.length - placed.size,
      comparable.length - visible.length,
      data,
      comparable,
    );
    this.figure.show({
      title,
      note: t(
        "Bars are 95 % intervals, arrows lead from before to after calibration, the dashed line joins checkpoints that no other beats in both directions. Measured on the same teacher and text.",
      ),
      spec,
      table: drawnPoints(title, cost, quality, [...placed.keys()]),
    });
  }

  private showTable(points: readonly TradeOffPoint[]): void {
    const { column, descending } = this.sorted;
    const unsorted = allPoints(points);
    const order = points.map((_, row) => row);
    // Sorted as they came until a header is pressed; checkpoints without the number go last either way.
    if (column >= 0) order.sort((a, b) => compareCells(unsorted.cell(a, column), unsorted.cell(b, column), descending));
    const model = { ...unsorted, cell: (row: number, at: number) => unsorted.cell(order[row]!, at) };
    const options = {
      open: (row: number) => {
        this.openRun(points[order[row]!]);
      },
      sort: (pressed: number) => {
        this.sorted = { column: pressed, descending: this.sorted.column === pressed && !this.sorted.descending };
        this.draw();
      },
      sorted: this.sorted,
    };
    if (this.table) this.table.show(model, options);
    else {
      this.table = new TableView(model, options);
      this.tableHost.append(this.table.element);
    }
  }

  private openRun(point: TradeOffPoint | undefined): void {
    if (point) this.services.run("openReport", point.runDirectory);
  }
}

function methodsOf(points: readonly TradeOffPoint[]): string[] {
  return [...new Set(points.flatMap(({ method }) => method ?? []))].sort();
}

function notDrawn(
  withoutNumber: number,
  hidden: number,
  data: TradeOffPanelData,
  comparable: readonly TradeOffPoint[],
): string {
  const elsewhere = data.points.length - comparable.length;
  const parts = [
    withoutNumber > 0 ? t("{0} without one of the two numbers, or 0 on a log axis", withoutNumber) : "",
    hidden > 0 ? t("{0} of methods switched off", hidden) : "",
    elsewhere > 0 ? t("{0} measured with another teacher or text, which no chart may mix", elsewhere) : "",
  ].filter(Boolean);
  return parts.length === 0 ? "" : t("Checkpoints not drawn: {0}.", parts.join("; "));
}

type Cell = string | number | null;

function compareCells(a: Cell, b: Cell, descending: boolean): number {
  if (a === null || b === null) return (a === null ? 1 : 0) - (b === null ? 1 : 0);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  return descending ? -order : order;
}

function arrowsBetween(
  points: readonly TradeOffPoint[],
  placed: Map<TradeOffPoint, ScatterPoint>,
): ScatterSpec["arrows"] {
  return points.flatMap((after) => {
    if (after.stage !== "after") return [];
    const before = points.find(({ run, stage }) => run === after.run && stage === "before");
    const from = before && placed.get(before);
    const to = placed.get(after);
    return from && to ? [{ from, to }] : [];
  });
}

function drawnPoints(
  caption: string,
  cost: (typeof costs)[Cost],
  quality: (typeof qualities)[Quality],
  points: readonly TradeOffPoint[],
): TableModel {
  const columns: [string, (p: TradeOffPoint) => string | number | null, ((v: number | null) => string)?][] = [
    [t("Checkpoint"), (p) => p.label],
    [t("Stage"), (p) => p.stage],
    [cost.title, cost.value, cost.format],
    [quality.title, quality.value, quality.format],
    [t("half width of the 95 % interval"), quality.halfWidth, quality.format],
  ];
  return tableOf(caption, columns, points);
}

function allPoints(points: readonly TradeOffPoint[]): TableModel {
  const precise = (value: number | null): string => decimal(value, 5);
  return tableOf(
    t("Every checkpoint evaluated with this teacher and text"),
    [
      [t("Checkpoint"), (p) => p.label],
      [t("Run"), (p) => p.run],
      [t("Stage"), (p) => p.stage],
      [t("Method"), (p) => p.method],
      [t("Keep"), (p) => p.keep],
      [t("Parameters"), (p) => p.parametersTotal, parameters],
      [t("Size"), (p) => p.bytes, bytes],
      [t("KL to teacher, nats a token"), (p) => p.klToTeacher, precise],
      [t("± KL"), (p) => p.klHalfWidth, precise],
      [t("Loss, nats a token"), (p) => p.nllPerToken, precise],
      [t("± loss"), (p) => p.nllHalfWidth, precise],
      [t("Tokens a second"), (p) => p.tokensPerSecond, precise],
      [t("Peak memory"), (p) => p.peakMemoryBytes, bytes],
    ],
    points,
  );
}

function tableOf(
  caption: string,
  columns: readonly [string, (p: TradeOffPoint) => string | number | null, ((v: number | null) => string)?][],
  points: readonly TradeOffPoint[],
): TableModel {
  return {
    caption,
    columns: columns.map(([label, , format]) => ({ label, ...(format ? { format } : {}) })),
    rowCount: points.length,
    cell: (row, column) => columns[column]![1](points[row]!),
  };
}
