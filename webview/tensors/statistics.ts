import type { PackedStatistics, TensorRow, TensorStatistics } from "../../src/protocol/checkpointSummary";
import { Figure } from "../common/charts/figure";
import { histogram, type HistogramSpec } from "../common/charts/histogram";
import { element } from "../common/dom";
import { facts } from "../common/facts";
import { bytes, count, decimal, percent } from "../common/format";
import { request } from "../common/messaging";
import { messageOf, type PageServices } from "../common/page";
import { progressRing } from "../common/toolkit";
import { t } from "../common/translate";
import { untrusted } from "../common/untrusted";

/** Statistics of one tensor, computed by the engine when a row is opened. */
export class StatisticsPanel {
  readonly element: HTMLElement;
  available = true;
  private asked = 0;
  private readonly heading = element("h2", {});
  private readonly status = element("div", { role: "status" });
  private readonly list = element("dl", { class: "facts", "data-statistics": true });
  private readonly packed = element("dl", { class: "facts", "data-packed": true });
  private readonly figure: Figure<HistogramSpec>;
  private readonly values: Figure<HistogramSpec>;
  private readonly codes: Figure<HistogramSpec>;

  constructor(private readonly services: PageServices) {
    this.figure = new Figure("histogram", histogram, services);
    this.values = new Figure("values", histogram, services);
    this.codes = new Figure("codes", histogram, services);
    this.element = element(
      "section",
      { hidden: true },
      ...[this.heading, this.status, this.list, this.packed],
      ...[this.values, this.codes, this.figure].map((figure) => figure.element),
    );
  }

  open(tensor: TensorRow): void {
    const question = ++this.asked;
    this.element.hidden = false;
    this.heading.replaceChildren(t("Statistics of "), untrusted(tensor.name, 120));
    for (const figure of [this.figure, this.values, this.codes]) figure.element.hidden = true;
    this.packed.replaceChildren();
    const known = [
      [t("Shape"), `[${tensor.shape.join(", ")}]`],
      [t("Data type"), untrusted(tensor.dtype, 40)],
      [t("Bytes"), `${count(tensor.bytes)} (${bytes(tensor.bytes)})`],
      [t("Shard"), untrusted(tensor.shard, 120)],
    ] as const;
    facts(this.list, known);
    if (!this.available) {
      this.status.replaceChildren(t("Statistics need the engine, which cannot be used here."));
      return;
    }
    this.status.replaceChildren(progressRing(t("Computing statistics")));
    request("tensorStatistics", { tensor: tensor.name }).then(
      (statistics) => {
        if (question !== this.asked) return;
        this.status.replaceChildren();
        facts(this.list, [...known, ...rowsOf(statistics)]);
        const { packed } = statistics;
        draw(this.figure, packed ? t("Distribution of stored values") : t("Distribution of values"), statistics);
        if (packed) this.showPacked(packed);
        this.services.announce(t("Statistics: mean {0}", decimal(statistics.mean, 4)));
      },
      (error: unknown) => {
        if (question === this.asked)
          this.status.replaceChildren(element("p", { class: "notice error" }, untrusted(messageOf(error), 300)));
      },
    );
  }

  private showPacked({ form, matrices, values, codes, scales }: PackedStatistics): void {
    const read = matrices.read < matrices.all ? t("{0} of {1} matrices", matrices.read, matrices.all) : "";
    facts(this.packed, [
      [t("Stored as"), untrusted([form, read].filter(Boolean).join(", "), 120)],
      [t("Dequantised"), inShort(values)],
      ...(codes ? [[t("Codes"), inShort(codes)] as const] : []),
      ...scales.map((one) => [t("Scales"), element("span", {}, untrusted(one.name, 80), ": ", inShort(one))] as const),
    ]);
    draw(this.values, t("Distribution of dequantised values"), values);
    if (codes) draw(this.codes, t("Distribution of codes, less their zero point"), codes);
  }
}

function inShort({ min, max, mean, standardDeviation, zeros, count: all }: TensorStatistics): string {
  const share = percent(all === 0 ? null : zeros / all);
  return t(
    "{0} to {1}, mean {2}, standard deviation {3}, zeros {4}",
    ...[min, max, mean, standardDeviation].map((value) => decimal(value)),
    share,
  );
}

function draw(figure: Figure<HistogramSpec>, title: string, { histogram: { edges, counts } }: TensorStatistics): void {
  figure.element.hidden = false;
  if (counts.length === 0) {
    figure.showEmpty(title, t("The tensor holds no finite values."));
    return;
  }
  figure.show({
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

function rowsOf(s: TensorStatistics): (readonly [string, string])[] {
  const notFinite = s.count - s.finite;
  return [
    [t("Elements"), count(s.count)],
    [t("Not finite"), notFinite === 0 ? "none" : t("{0} (NaN or infinity)", count(notFinite))],
    [t("Zeros"), `${count(s.zeros)} (${percent(s.count === 0 ? null : s.zeros / s.count)})`],
    [t("Minimum"), decimal(s.min, 6)],
    [t("Maximum"), decimal(s.max, 6)],
    [t("Mean"), decimal(s.mean, 6)],
    [t("Standard deviation"), decimal(s.standardDeviation, 6)],
  ];
}
