import type { DistillationFigure, DistillationPanelData } from "../../src/protocol/panels";
import { Figure } from "../common/charts/figure";
import { lineChart, type LineSpec } from "../common/charts/lineChart";
import { element } from "../common/dom";
import { decimal } from "../common/format";
import type { PageServices, View } from "../common/page";
import { plainLabel } from "../common/text";
import { t } from "../common/translate";
import { figureTable } from "./table";

/** The figures of Every Expert Matters that a run or a comparison has measured. */
export class DistillationView implements View<"distillation"> {
  readonly element = element("div", { class: "figures" });
  private figures: { title: string; figure: Figure<LineSpec> }[] = [];

  constructor(private readonly services: PageServices) {}

  show({ figures }: DistillationPanelData): void {
    const isSame =
      figures.length === this.figures.length && figures.every(({ title }, i) => title === this.figures[i]!.title);
    if (!isSame) {
      this.figures = figures.map(({ title }) => ({ title, figure: new Figure(idOf(title), lineChart, this.services) }));
      this.element.replaceChildren(...this.figures.map(({ figure }) => figure.element));
    }
    for (const [i, shown] of figures.entries()) {
      const content = { title: shown.title, note: noteOf(shown), spec: specOf(shown), table: figureTable(shown) };
      if (i === 0) this.figures[i]!.figure.show(content);
      else this.figures[i]!.figure.showLater(content);
    }
  }
}

function specOf({ xAxis, yAxis, series }: DistillationFigure): LineSpec {
  return {
    x: { title: xAxis },
    y: { title: yAxis },
    series: series.map(({ name, points }) => ({ label: plainLabel(name, 60), points, pronounced: true })),
    format: (value) => decimal(value),
  };
}

function noteOf({ series, rows }: DistillationFigure): string | null {
  if (rows) return t("Arms in the order of the table, which names them; ± is half of the 95 % interval.");
  const hasIntervals = series.some(({ points }) => points.some(({ halfWidth95 }) => halfWidth95 !== null));
  return hasIntervals ? t("The table has ±, half of the 95 % interval.") : null;
}

function idOf(title: string): string {
  return title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
}
