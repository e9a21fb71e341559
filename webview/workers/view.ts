import { formatBytes, formatDuration } from "../../src/protocol/quantities";
import type { PageContext } from "../../src/protocol/pageMessages";
import type { WorkersPanelData } from "../../src/protocol/workersPanel";
import { Figure } from "../common/charts/figure";
import { lanesChart } from "../common/charts/lanesChart";
import type { LanesSpec } from "../common/charts/lanesSpec";
import { lineChart, type LineSpec } from "../common/charts/lineChart";
import { seriesTable } from "../common/charts/seriesTable";
import { element } from "../common/dom";
import { exportMenu } from "../common/exportMenu";
import { facts } from "../common/facts";
import { count, decimal, duration, percent } from "../common/format";
import type { PageServices, View } from "../common/page";
import type { TableModel } from "../common/tableModel";
import { TableView } from "../common/tableView";
import { plainLabel } from "../common/text";
import { Select, textField } from "../common/toolkit";
import { untrusted } from "../common/untrusted";
import { arranged, mostLanes, orders, throughput, tilesByWorker, type Order } from "./spread";
import { passTable, tileTable, workerTable } from "./tables";

const orderLabels: Record<Order, string> = {
  name: "Name",
  state: "State: what needs a look first",
  busy: "Busy share, lowest first",
  tiles: "Tiles done, most first",
};

/** How a run's work is spread: lanes of workers, throughput, efficiency, what was repeated and who was lost. */
export class WorkersView implements View<"workers"> {
  readonly element: HTMLElement;
  private data: WorkersPanelData | undefined;
  private live = false;
  private timer = 0;
  private readonly summary = element("dl", { class: "facts" });
  private readonly order: Select<Order>;
  private readonly cut = element("p", { class: "muted", role: "status" });
  private readonly lanes: Figure<LanesSpec>;
  private readonly rate: Figure<LineSpec>;
  private readonly workers: Tabled;
  private readonly passes: Tabled;

  constructor(private readonly services: PageServices) {
    const { persisted } = services;
    this.order = new Select<Order>("Order", (value) => {
      persisted.set("order", value);
      this.draw();
    });
    const filter = textField("Filter workers", "Words in name, host or state", persisted.text("filter"), (text) => {
      persisted.set("filter", text);
      window.clearTimeout(this.timer);
      this.timer = window.setTimeout(() => {
        this.draw();
      }, 120);
    });
    this.lanes = new Figure(
      "lanes",
      lanesChart,
      services,
      "Left and Right move between a worker's tiles, Up and Down between workers, Page Up and Page Down by ten; the Table button shows the same numbers as text.",
    );
    this.rate = new Figure("throughput", lineChart, services);
    this.workers = new Tabled("workers", "Workers", services);
    this.passes = new Tabled("passes", "Passes", services);
    this.element = element(
      "div",
      {},
      this.summary,
      element("div", { class: "toolbar" }, filter, this.order.element),
      this.cut,
      this.lanes.element,
      this.rate.element,
      this.workers.element,
      this.passes.element,
    );
  }

  show(data: WorkersPanelData, { live }: PageContext): void {
    this.data = data;
    this.live = live;
    this.order.set(
      orders.map((value) => ({ value, label: orderLabels[value] })),
      this.services.persisted.choice("order", orders),
    );
    this.draw();
  }

  private draw(): void {
    const { data } = this;
    if (!data) return;
    const { persisted } = this.services;
    const places = arranged(data.workers, persisted.text("filter"), persisted.choice("order", orders) ?? "name");
    this.drawSummary(data);
    const left = data.workers.length - places.length;
    this.cut.textContent = [
      left > 0 ? `${count(left)} of ${count(data.workers.length)} workers do not have the words of the filter.` : "",
      places.length > mostLanes ? `The timeline shows the first ${mostLanes} of ${count(places.length)}.` : "",
    ]
      .join(" ")
      .trim();
    this.drawLanes(data, places.slice(0, mostLanes));
    this.drawRate(data);
    this.workers.show(workerTable(data, places));
    this.passes.show(passTable(data));
  }

  private drawSummary(data: WorkersPanelData): void {
    const { workers, events, running, seconds, efficiency, busy, passes, tiles } = data;
    const number = (state: string) => workers.filter((worker) => worker.state === state).length;
    const refused = workers.filter(({ reason }) => reason !== null).length;
    const repeated = tiles.repeated.reduce((sum, one) => sum + one, 0);
    const bytes = tiles.bytes.reduce((sum, one) => sum + one, 0);
    const lost = events.filter(({ event }) => event === "lost").length;
    const rate = workers.reduce((sum, one) => sum + (one.state === "working" ? (one.tokensPerSecond ?? 0) : 0), 0);
    const slowest = slowestOf(data);
    facts(this.summary, [
      ["Queue", untrusted(data.queue, 120)],
      [
        "Workers",
        running
          ? `${count(workers.length)}: ${number("working")} working, ${number("idle")} idle, ${number("lost")} lost, ${refused} not eligible`
          : count(workers.length),
      ],
      [
        "Tiles",
        `${count(passes.reduce((sum, { done }) => sum + done, 0))} done, ${count(passes.reduce((sum, { left }) => sum + left, 0))} left, ${count(repeated)} repeated`,
      ],
      ["Workers lost", count(lost)],
      ["Efficiency", `${percent(efficiency)} of the workers' processor time`],
      ["Busy", `${percent(busy)} of the time that workers were there`],
      ...(running && this.live ? [["Now", `${decimal(rate, 3)} tokens/s`] as const] : []),
      ["Time", formatDuration(seconds)],
      ["Results", formatBytes(bytes)],
      ...(slowest ? [["Slowest worker", slowest] as const] : []),
    ]);
  }

  private drawLanes(data: WorkersPanelData, places: readonly number[]): void {
    const title = "Tiles by worker";
    if (data.tiles.worker.length === 0 || places.length === 0) {
      this.lanes.showEmpty(title, places.length === 0 ? "No worker has these words." : "No tile is done yet.");
      return;
    }
    const { tiles, passes, units, workers, events } = data;
    const byWorker = tilesByWorker(data);
    const laneOf = new Map(places.map((place, lane) => [place, lane]));
    const spec: LanesSpec = {
      x: { title: "Time since the first tile began", format: duration, max: data.seconds },
      title: "Worker",
      lanes: places.map((place) => plainLabel(workers[place]!.name, 24)),
      kinds: passes.map(({ pass }) => plainLabel(pass, 40)),
      bars: places.map((place) =>
        byWorker[place]!.map((i) => ({
          start: tiles.start[i]!,
          end: tiles.start[i]! + tiles.seconds[i]!,
          kind: tiles.pass[i]!,
          marked: tiles.repeated[i] === 1,
          describe: () =>
            [
              `${plainLabel(passes[tiles.pass[i]!]!.pass, 40)}, ${units[tiles.unit[i]!] ?? ""} ${tiles.from[i]!} to ${tiles.to[i]!}`,
              `${formatDuration(tiles.seconds[i]!)} from ${formatDuration(tiles.start[i]!)}`,
              `${count(tiles.tokens[i]!)} tokens, ${decimal(tiles.tokens[i]! / Math.max(1e-3, tiles.seconds[i]!), 3)} tokens/s`,
              ...(tiles.repeated[i] === 1 ? ["repeated"] : []),
            ].join("\n"),
        })),
      ),
      crosses: events.flatMap(({ worker, at, event }) => {
        const lane = laneOf.get(worker);
        return event === "lost" && lane !== undefined ? [{ lane, at: Math.min(at, data.seconds) }] : [];
      }),
    };
    this.lanes.show({
      title,
      note: "A bar is a tile, coloured by its pass; one with a frame had been begun before. A cross: a worker was lost.",
      spec,
      table: tileTable(data, new Set(places)),
    });
  }

  private drawRate(data: WorkersPanelData): void {
    const title = "Throughput by pass";
    const series = throughput(data);
    if (series.length === 0) {
      this.rate.showEmpty(title, "No tile is done yet.");
      return;
    }
    const spec: LineSpec = {
      x: { title: "Seconds since the first tile began" },
      y: { title: "tokens/s", min: 0 },
      series: series.map(({ pass, points }) => ({ label: plainLabel(data.passes[pass]!.pass, 40), points })),
      format: (value) => decimal(value, 3),
    };
    this.rate.showLater({
      title,
      note: "All workers together; a tile's tokens are spread over its time.",
      spec,
      table: seriesTable(title, spec),
    });
  }
}

/** A table with a heading and its CSV. */
class Tabled {
  readonly element: HTMLElement;
  private readonly table = new TableView({ caption: "", columns: [], rowCount: 0, cell: () => null });
  private model: TableModel | undefined;

  constructor(id: string, heading: string, services: PageServices) {
    const exports = exportMenu(
      () => (this.model ? { title: this.model.caption, table: this.model, png: null } : null),
      services,
      false,
    );
    this.element = element(
      "section",
      { class: "figure", "data-table": id },
      element("div", { class: "figure-header" }, element("h2", {}, heading), exports),
      this.table.element,
    );
  }

  show(model: TableModel): void {
    this.model = model;
    this.table.show(model);
  }
}

/** Of workers with several tiles, the one with the fewest tokens a second of its tiles' time. */
function slowestOf({ workers, tiles }: WorkersPanelData): string | null {
  const tokens = workers.map(() => 0);
  for (const [i, worker] of tiles.worker.entries()) tokens[worker]! += tiles.tokens[i]!;
  const rates = workers
    .map(({ name, tileSeconds, tiles: done }, i) => ({ name, done, rate: tokens[i]! / Math.max(1e-3, tileSeconds) }))
    .filter(({ done }) => done >= 3);
  if (rates.length < 2) return null;
  const slowest = rates.reduce((a, b) => (b.rate < a.rate ? b : a));
  const sorted = rates.map(({ rate }) => rate).sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)]!;
  return `${plainLabel(slowest.name, 60)}: ${decimal(slowest.rate, 3)} tokens/s, ${percent(slowest.rate / median)} of the median`;
}
