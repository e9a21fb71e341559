import type { TensorRow, TensorStatistics } from "../../src/protocol/checkpointSummary";
import { Figure } from "../common/charts/figure";
import { histogram, type HistogramSpec } from "../common/charts/histogram";
import { element } from "../common/dom";
import { facts } from "../common/facts";
import { bytes, count, decimal, percent } from "../common/format";
import { request } from "../common/messaging";
import { messageOf, type PageServices } from "../common/page";
import { progressRing } from "../common/toolkit";
import { untrusted } from "../common/untrusted";

/** Statistics of one tensor, computed by the engine when a row is opened. */
export class StatisticsPanel {
  readonly element: HTMLElement;
  available = true;
  private asked = 0;
  private readonly heading = element("h2", {});
  private readonly status = element("div", { role: "status" });
  private readonly list = element("dl", { class: "facts", "data-statistics": true });
  private readonly figure: Figure<HistogramSpec>;

  constructor(private readonly services: PageServices) {
    this.figure = new Figure("histogram", histogram, services);
    this.element = element("section", { hidden: true }, this.heading, this.status, this.list, this.figure.element);
  }

  open(tensor: TensorRow): void {
    const question = ++this.asked;
    this.element.hidden = false;
    this.heading.replaceChildren("Statistics of ", untrusted(tensor.name, 120));
    this.figure.element.hidden = true;
    const known = [
      ["Shape", `[${tensor.shape.join(", ")}]`],
      ["Data type", untrusted(tensor.dtype, 40)],
      ["Bytes", `${count(tensor.bytes)} (${bytes(tensor.bytes)})`],
      ["Shard", untrusted(tensor.shard, 120)],
    ] as const;
    facts(this.list, known);
    if (!this.available) {
      this.status.replaceChildren("Statistics need the engine, which cannot be used here.");
      return;
    }
    this.status.replaceChildren(progressRing("Computing statistics"));
    request("tensorStatistics", { tensor: tensor.name }).then(
      (statistics) => {
        if (question !== this.asked) return;
        this.status.replaceChildren();
        facts(this.list, [...known, ...rowsOf(statistics)]);
        this.draw(statistics);
        this.services.announce(`Statistics: mean ${decimal(statistics.mean, 4)}`);
      },
      (error: unknown) => {
        if (question === this.asked)
          this.status.replaceChildren(element("p", { class: "notice error" }, untrusted(messageOf(error), 300)));
      },
    );
  }

  private draw({ histogram: { edges, counts } }: TensorStatistics): void {
    this.figure.element.hidden = false;
    const title = "Distribution of values";
    if (counts.length === 0) {
      this.figure.showEmpty(title, "The tensor holds no finite values.");
      return;
    }
    this.figure.show({
      title,
      note: null,
      spec: { edges, counts, quantity: "value" },
      table: {
        caption: title,
        columns: [{ label: "from" }, { label: "to" }, { label: "values", format: count }],
        rowCount: counts.length,
        cell: (row, column) => [edges[row], edges[row + 1], counts[row]][column] ?? null,
      },
    });
  }
}

function rowsOf(s: TensorStatistics): (readonly [string, string])[] {
  const notFinite = s.count - s.finite;
  return [
    ["Elements", count(s.count)],
    ["Not finite", notFinite === 0 ? "none" : `${count(notFinite)} (NaN or infinity)`],
    ["Zeros", `${count(s.zeros)} (${percent(s.count === 0 ? null : s.zeros / s.count)})`],
    ["Minimum", decimal(s.min, 6)],
    ["Maximum", decimal(s.max, 6)],
    ["Mean", decimal(s.mean, 6)],
    ["Standard deviation", decimal(s.standardDeviation, 6)],
  ];
}
