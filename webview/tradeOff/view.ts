import type { TradeOffPanelData, TradeOffPoint } from "../../src/protocol/panels";
import { Figure } from "../common/charts/figure";
import { scatterChart, type ScatterPoint, type ScatterSpec } from "../common/charts/scatterChart";
import { element } from "../common/dom";
import { bytes, number, parameters } from "../common/format";
import type { Services, View } from "../common/page";
import type { TableModel } from "../common/tableModel";
import { TableView } from "../common/tableView";
import { plainLabel } from "../common/text";
import { Select } from "../common/toolkit";
import { costNames, costs, qualities, qualityNames, type Cost, type Quality } from "./measures";

const stages = ["teacher", "before", "after"] as const;
const stageLabels = {
  teacher: "teacher",
  before: "compressed, before calibration",
  after: "after calibration",
} as const;

/** Cost against quality over all runs, with intervals and an arrow for what calibration did. */
export class TradeOffView implements View<"tradeOff"> {
  readonly element: HTMLElement;
  private data: TradeOffPanelData | undefined;
  private readonly cost: Select<Cost>;
  private readonly quality: Select<Quality>;
  private readonly figure: Figure<ScatterSpec>;
  private readonly missing = element("p", { class: "muted" });
  private readonly tableHost = element("section", {}, element("h2", {}, "All checkpoints"));
  private table: TableView | undefined;

  constructor(private readonly services: Services) {
    this.cost = new Select("Cost", (value) => {
      services.persisted.set("cost", value);
      this.draw();
    });
    this.quality = new Select("Quality", (value) => {
      services.persisted.set("quality", value);
      this.draw();
    });
    this.figure = new Figure(
      "tradeOff",
      scatterChart,
      services,
      "Left and right move between points, up and down between kinds of checkpoints; the table holds the same numbers.",
    );
    const toolbar = element("div", { class: "toolbar" }, this.cost.element, this.quality.element);
    this.element = element("div", {}, toolbar, this.figure.element, this.missing, this.tableHost);
  }

  show(data: TradeOffPanelData): void {
    this.data = data;
    const { persisted } = this.services;
    this.cost.set(
      costNames.map((value) => ({ value, label: costs[value].label })),
      persisted.choice("cost", costNames),
    );
    this.quality.set(
      qualityNames.map((value) => ({ value, label: qualities[value].label })),
      persisted.choice("quality", qualityNames),
    );
    this.draw();
    const model = allPoints(data.points);
    if (this.table) this.table.show(model);
    else {
      this.table = new TableView(model);
      this.tableHost.append(this.table.element);
    }
  }

  private draw(): void {
    const { data } = this;
    if (!data) return;
    const { persisted } = this.services;
    const cost = costs[persisted.choice("cost", costNames) ?? "bytes"];
    const quality = qualities[persisted.choice("quality", qualityNames) ?? "kl"];
    const title = `${quality.label} against ${cost.label.toLowerCase()}`;
    const place = (point: TradeOffPoint): ScatterPoint | null => {
      const x = cost.value(point);
      const y = quality.value(point);
      if (x === null || y === null) return null;
      return { x, y, halfWidth: quality.halfWidth(point), label: plainLabel(point.label, 60) };
    };
    const placed = new Map(
      data.points.flatMap((point) => {
        const at = place(point);
        return at ? [[point, at] as const] : [];
      }),
    );
    if (placed.size === 0) {
      this.figure.showEmpty(title, "No checkpoint has both numbers yet. They come from the evaluate stage of a run.");
      this.missing.textContent = "";
      return;
    }
    const spec: ScatterSpec = {
      x: { title: cost.title, format: cost.format, binary: "binary" in cost },
      y: { title: quality.title, format: quality.format, ...("min" in quality ? { min: quality.min } : {}) },
      series: stages.map((stage) => ({
        label: stageLabels[stage],
        points: [...placed].filter(([point]) => point.stage === stage).map(([, at]) => at),
      })),
      arrows: arrowsBetween(data.points, placed),
    };
    const left = data.points.length - placed.size;
    this.missing.textContent =
      left === 0
        ? ""
        : `Not drawn, since one of the two numbers is missing: ${left} of ${data.points.length} checkpoints.`;
    this.figure.show({
      title,
      note: "Bars are 95 % intervals; an arrow leads from before to after calibration of a run.",
      spec,
      table: drawnPoints(title, cost, quality, [...placed.keys()]),
    });
  }
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
    ["Checkpoint", (p) => p.label],
    ["Stage", (p) => p.stage],
    [cost.title, cost.value, cost.format],
    [quality.title, quality.value, quality.format],
    ["half width of the 95 % interval", quality.halfWidth, quality.format],
  ];
  return tableOf(caption, columns, points);
}

function allPoints(points: readonly TradeOffPoint[]): TableModel {
  const precise = (value: number | null): string => number(value, 5);
  return tableOf(
    "Every checkpoint that was evaluated",
    [
      ["Checkpoint", (p) => p.label],
      ["Run", (p) => p.run],
      ["Stage", (p) => p.stage],
      ["Method", (p) => p.method],
      ["Parameters", (p) => p.parametersTotal, parameters],
      ["Size", (p) => p.bytes, bytes],
      ["KL to teacher, nats a token", (p) => p.klToTeacher, precise],
      ["± KL", (p) => p.klHalfWidth, precise],
      ["Loss, nats a token", (p) => p.nllPerToken, precise],
      ["± loss", (p) => p.nllHalfWidth, precise],
      ["Tokens a second", (p) => p.tokensPerSecond, precise],
      ["Peak memory", (p) => p.peakMemoryBytes, bytes],
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
