import { formatBytes, formatDuration } from "../../src/protocol/quantities";
import type { PageContext } from "../../src/protocol/pageMessages";
import type { WorkersPanelData } from "../../src/protocol/workersPanel";
import { Figure } from "../common/charts/figure";
import { lanesChart } from "../common/charts/lanesChart";
import type { LanesSpec } from "../common/charts/lanesSpec";
import { lineChart, type LineSpec } from "../common/charts/lineChart";
import { seriesTable } from "../common/charts/chartTables";
import { element } from "../common/dom";
import { exportMenu } from "../common/exportMenu";
import { facts } from "../common/facts";
import { count, decimal, duration, percent } from "../common/format";
import type { PageServices, View } from "../common/page";
import type { TableModel } from "../common/tableModel";
import { TableView } from "../common/tableView";
import { plainLabel } from "../common/text";
import { Select, textField } from "../common/toolkit";
import { t } from "../common/translate";
import { untrusted } from "../common/untrusted";
import { arranged, mostLanes, orders, throughput, tilesByWorker, type Order } from "./spread";
import { passTable, tileTable, workerTable } from "./tables";

const orderLabels: Record<Order, string> = {
  name: t("Name"),
  state: t("State: what needs a look first"),
  busy: t("Busy share, lowest first"),
  tiles: t("Tiles done, most first"),
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
    this.order = new Select<Order>(t("Order"), (value) => {
      persisted.set("order", value);
      this.draw();
    });
    const filter = textField(
      t("Filter workers"),
      t("Words in name, host or state"),
      persisted.text("filter"),
      (text) => {
        persisted.set("filter", text);
        window.clearTimeout(this.timer);
        this.timer = window.setTimeout(() => {
          this.draw();
        }, 120);
      },
    );
    this.lanes = new Figure(
      "lanes",
      lanesChart,
      services,
      t(
        "Left and Right move between a worker's tiles, Up and Down between workers, Page Up and Page Down by ten; the Table button shows the same numbers as text.",
      ),
    );
    this.rate = new Figure("throughput", lineChart, services);
    this.workers = new Tabled("workers", t("Workers"), services);
    this.passes = new Tabled("passes", t("Passes"), services);
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
      left > 0
        ? t("{0} of {1} workers do not have the words of the filter.", count(left), count(data.workers.length))
        : "",
      places.length > mostLanes ? t("The timeline shows the first {0} of {1}.", mostLanes, count(places.length)) : "",
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
    const done = passes.reduce((sum, pass) => sum + pass.done, 0);
    const left = passes.reduce((sum, pass) => sum + pass.left, 0);
    const slowest = slowestOf(data);
    facts(this.summary, [
      [t("Queue"), untrusted(data.queue, 120)],
      [
        t("Workers"),
        running
          ? t(
              "{0}: {1} working, {2} idle, {3} lost, {4} not eligible",
              ...[count(workers.length), number("working"), number("idle"), number("lost"), refused],
            )
          : count(workers.length),
      ],
      [t("Tiles"), t("{0} done, {1} left, {2} repeated", count(done), count(left), count(repeated))],
      [t("Workers lost"), count(lost)],
      [t("Efficiency"), t("{0} of the workers' processor time", percent(efficiency))],
      [t("Busy"), t("{0} of the time that workers were there", percent(busy))],
      ...(running && this.live ? [[t("Now"), t("{0} tokens/s", decimal(rate, 3))] as const] : []),
      [t("Time"), formatDuration(seconds)],
      [t("Results"), formatBytes(bytes)],
      ...(slowest ? [[t("Slowest worker"), slowest] as const] : []),
    ]);
  }

  private drawLanes(data: WorkersPanelData, places: readonly number[]): void {
    const title = t("Tiles by worker");
    if (data.tiles.worker.length === 0 || places.length === 0) {
      this.lanes.showEmpty(title, places.length === 0 ? t("No worker has these words.") : t("No tile is done yet."));
      return;
    }
    const { tiles, passes, units, workers, events } = data;
    const byWorker = tilesByWorker(data);
    const laneOf = new Map(places.map((place, lane) => [place, lane]));
    const spec: LanesSpec = {
      x: {
        title: t("Time since the first tile began"),
        format: (at) => (at === 0 ? "0" : duration(at)),
        max: data.seconds,
      },
      title: t("Worker"),
      lanes: places.map((place) => laneLabel(workers[place]!)),
      kinds: passes.map(({ pass }) => plainLabel(pass, 40)),
      bars: places.map((place) =>
        byWorker[place]!.map((i) => ({
          start: tiles.start[i]!,
          end: tiles.start[i]! + tiles.seconds[i]!,
          kind: tiles.pass[i]!,
          marked: tiles.repeated[i] === 1,
          describe: () =>
            [
              t(
                "{0}, {1} {2} to {3}",
                ...[plainLabel(passes[tiles.pass[i]!]!.pass, 40), units[tiles.unit[i]!] ?? ""],
                ...[tiles.from[i]!, tiles.to[i]!],
              ),
              t("{0} from {1}", formatDuration(tiles.seconds[i]!), formatDuration(tiles.start[i]!)),
              t(
                "{0} tokens, {1} tokens/s",
                count(tiles.tokens[i]!),
                decimal(tiles.tokens[i]! / Math.max(1e-3, tiles.seconds[i]!), 3),
              ),
              ...(tiles.repeated[i] === 1 ? [t("repeated")] : []),
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
      note: t(
        "A bar is a tile, coloured by its pass; one with a frame had been begun before. A cross: a worker was lost.",
      ),
      spec,
      table: tileTable(data, new Set(places)),
    });
  }

  private drawRate(data: WorkersPanelData): void {
    const title = t("Throughput by pass");
    const series = throughput(data);
    if (series.length === 0) {
      this.rate.showEmpty(title, t("No tile is done yet."));
      return;
    }
    const spec: LineSpec = {
      x: { title: t("Seconds since the first tile began"), format: (value) => decimal(value, 3) },
      y: { title: t("tokens/s"), min: 0 },
      series: series.map(({ pass, points }) => ({ label: plainLabel(data.passes[pass]!.pass, 40), points })),
      format: (value) => decimal(value, 3),
    };
    this.rate.showLater({
      title,
      note: t("All workers together; a tile's tokens are spread over its time."),
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

/** What a lane is called: the worker, and the part of the layers that it keeps to. */
function laneLabel({ name, layers }: WorkersPanelData["workers"][number]): string {
  return layers === null ? plainLabel(name, 24) : `${plainLabel(name, 18)} ${plainLabel(layers, 9)}`;
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
  return t(
    "{0}: {1} tokens/s, {2} of the median",
    plainLabel(slowest.name, 60),
    decimal(slowest.rate, 3),
    percent(slowest.rate / median),
  );
}
