import type { ChartOptions } from "chart.js";
import { count, decimal } from "../format";
import type { Theme } from "../theme";
import { axis, baseOptions, tooltipStyle, type ChartKind } from "./chartjs";
import { mountChart } from "./mountChart";
import { pointCursor } from "./pointCursor";

export interface HistogramSpec {
  /** Bin i reaches from edges[i] to edges[i + 1]. */
  edges: readonly number[];
  counts: readonly number[];
  /** Name of the x axis, with unit. */
  quantity: string;
}

/** Bars of equal width, one a bin. */
export const histogram: ChartKind<HistogramSpec> = (host, spec, theme, announce) => {
  const { frame, chart, shown, drawn } = mountChart<HistogramSpec, "bar">(host, spec, theme, {
    frameClass: "compact",
    height: 200,
    type: "bar",
    data: dataOf,
    options: optionsOf,
  });
  pointCursor(frame, chart, "histogram", announce, { describe: (_, index) => describeBin(shown(), index) });
  return drawn;
};

function describeBin({ edges, counts }: HistogramSpec, index: number): string {
  return `${decimal(edges[index] ?? null, 3)} to ${decimal(edges[index + 1] ?? null, 3)}: ${count(counts[index] ?? null)} values`;
}

function dataOf({ edges, counts }: HistogramSpec, theme: Theme): { labels: string[]; datasets: never[] } {
  const middles = counts.map((_, i) => decimal((edges[i]! + edges[i + 1]!) / 2, 2));
  const dataset = { data: counts, backgroundColor: theme.series[0]!, categoryPercentage: 1, barPercentage: 0.96 };
  return { labels: middles, datasets: [dataset] as unknown as never[] };
}

function optionsOf(spec: HistogramSpec, theme: Theme): ChartOptions<"bar"> {
  const y = axis(theme, "values");
  const options = {
    ...baseOptions<"bar">(theme),
    interaction: { mode: "index", intersect: false },
    plugins: {
      legend: { display: false },
      tooltip: {
        ...tooltipStyle(theme),
        callbacks: {
          title: () => "",
          label: ({ dataIndex }: { dataIndex: number }) => describeBin(spec, dataIndex),
        },
      },
    },
    scales: {
      x: { ...axis(theme, spec.quantity, false), type: "category", offset: true },
      y: { ...y, beginAtZero: true, ticks: { ...y.ticks, callback: (value: number) => count(value) } },
    },
  };
  return options as unknown as ChartOptions<"bar">;
}
