import type { PageContext, Selection } from "../../src/protocol/pageMessages";
import type { SimilarityMetric, SimilarityPanelData } from "../../src/protocol/panels";
import type { HeatmapSpec } from "../common/charts/heatmapSpec";
import { ComparedMap } from "../common/comparedMap";
import type { OtherMap } from "../common/compareScale";
import { ExpertPanel } from "../common/expertPanel";
import { element } from "../common/dom";
import { decimal } from "../common/format";
import { request } from "../common/messaging";
import { messageOf, type OtherRun, type PageServices, type View } from "../common/page";
import { Select } from "../common/toolkit";
import { isPermutation, positionsOf, reorder } from "./reorder";
import { t } from "../common/translate";

const metricLabels: Record<SimilarityMetric, { label: string; quantity: string }> = {
  "router-logit-cosine": { label: t("Router-logit cosine similarity"), quantity: t("cosine of router logits") },
  "output-cosine": { label: t("Mean-output cosine similarity"), quantity: t("cosine of mean outputs") },
  "output-distance": { label: t("Mean-output Euclidean distance"), quantity: t("Euclidean distance of mean outputs") },
  "weight-cosine": { label: t("Weight cosine similarity"), quantity: t("cosine of weights") },
};
const orders = ["dendrogram", "index"] as const;
type Order = (typeof orders)[number];
const orderLabels: Record<Order, string> = { dendrogram: t("dendrogram order"), index: t("index order") };

/** One layer's expert x expert matrix; layer and metric are asked for, order is our own. */
export class SimilarityView implements View<"similarity"> {
  readonly element: HTMLElement;
  private data: SimilarityPanelData | undefined;
  /** The runs that are compared; their matrices are those of `data`'s layer and metric. */
  private others: readonly OtherRun<"similarity">[] = [];
  private selection: Selection | null = null;
  /** Only the answer to the latest question is shown. */
  private asked = 0;
  private readonly layer: Select<number>;
  private readonly metric: Select<SimilarityMetric>;
  private readonly order: Select<Order>;
  private readonly map: ComparedMap;
  private readonly expert: ExpertPanel;
  private readonly groups = element("div", { "data-groups": true });

  constructor(private readonly services: PageServices) {
    this.layer = new Select(t("Layer"), (layer) => {
      this.ask(layer, this.data!.metric);
    });
    this.metric = new Select(t("Metric"), (metric) => {
      this.ask(this.data!.layer, metric);
    });
    this.order = new Select(t("Order"), (order) => {
      services.persisted.set("order", order);
      this.draw();
    });
    this.map = new ComparedMap("similarity", services);
    this.expert = new ExpertPanel(services, (selection) => {
      this.services.select(selection);
      this.select(selection);
    });
    const controls = [this.layer, this.metric, this.order].map((control) => control.element);
    this.element = element(
      "div",
      {},
      element("div", { class: "toolbar" }, ...controls),
      element("div", { class: "beside" }, this.map.element, this.expert.element),
      this.groups,
    );
    services.onSettings(() => {
      this.draw();
    });
  }

  show(data: SimilarityPanelData, context: PageContext, others: readonly OtherRun<"similarity">[]): void {
    this.others = others;
    this.expert.reload(context);
    const { persisted } = this.services;
    const layer = persisted.choice("layer", data.layers);
    const metric = persisted.choice("metric", data.available);
    const restored = this.data === undefined && (layer !== data.layer || metric !== data.metric);
    this.accept(data);
    // After a reload the host may hydrate with its default: ask for what the user had chosen.
    if (restored && persisted.flag("chosen") && layer !== undefined && metric !== undefined) this.ask(layer, metric);
  }

  select(selection: Selection): void {
    this.selection = selection;
    this.expert.follow(selection);
    if (this.data && this.data.layer !== selection.layer && this.data.layers.includes(selection.layer))
      this.ask(selection.layer, this.data.metric);
    else this.draw();
  }

  private ask(layer: number, metric: SimilarityMetric): void {
    const question = ++this.asked;
    const { persisted } = this.services;
    persisted.set("layer", layer);
    persisted.set("metric", metric);
    persisted.set("chosen", true);
    const others = this.others.map(async (other) => {
      const data = await request("similarity", { layer, metric, runDirectory: other.directory });
      return data ? [{ ...other, data }] : [];
    });
    Promise.all([request("similarity", { layer, metric }), ...others]).then(
      ([data, ...answered]) => {
        if (question !== this.asked) return;
        this.services.notify(null);
        this.others = answered.flat();
        if (data) this.accept(data);
        else
          this.map.showEmpty(
            `${metricLabels[metric].label}, layer ${layer}`,
            t("The profile of this run holds no such matrix."),
          );
      },
      (error: unknown) => {
        if (question === this.asked)
          this.services.notify(t("Layer {0} could not be read: {1}", layer, messageOf(error)));
      },
    );
  }

  private accept(data: SimilarityPanelData): void {
    this.data = data;
    this.layer.set(
      data.layers.map((value) => ({ value, label: t("Layer {0}", value) })),
      data.layer,
    );
    this.metric.set(
      data.available.map((value) => ({ value, label: metricLabels[value].label })),
      data.metric,
    );
    this.order.set(
      orders.map((value) => ({ value, label: value === "index" ? t("Expert index") : t("Dendrogram") })),
      this.services.persisted.choice("order", orders),
    );
    this.draw();
  }

  private draw(): void {
    const { data } = this;
    if (!data) return;
    const { label, quantity } = metricLabels[data.metric];
    const wanted = this.services.persisted.choice("order", orders) ?? "dendrogram";
    const index = Array.from({ length: data.numExperts }, (_, i) => i);
    const usable = isPermutation(data.dendrogramOrder, data.numExperts);
    const order = wanted === "dendrogram" && usable ? data.dendrogramOrder : index;
    const orderName = orderLabels[wanted === "dendrogram" && usable ? "dendrogram" : "index"];
    const title = `${label}, layer ${data.layer}, ${orderName}`;
    if (data.numExperts === 0) {
      this.map.showEmpty(title, t("This layer has no experts."));
      return;
    }
    const labels = order.map(String);
    const signed = data.matrix.values.some((value) => value !== null && value < 0);
    const groups = data.groups.filter((group) => group.length > 1);
    const spec: HeatmapSpec = {
      rows: { title: t("Expert"), labels },
      columns: { title: t("Other expert"), labels },
      values: reorder(data.matrix.values, order),
      quantity,
      format: (value) => decimal(value, 4),
      colours: { colours: this.services.colourScale, diverging: signed },
      nullMeaning: data.matrix.values.includes(null) ? t("never used, so no value") : null,
      groups: groups.map((group) => positionsOf(group, order)),
      marked: { positions: positionsOf(data.dropped, order), meaning: t("dropped by the plan") },
      selected: this.selectedIn(data, order),
      square: true,
      onSelect: (row) => {
        const selection = { layer: data.layer, expert: order[row]! };
        this.services.select(selection);
        this.expert.open(selection);
        this.select(selection);
      },
    };
    const note =
      t("{0} experts in {1}", data.numExperts, orderName) +
      (orderName === orderLabels.dendrogram ? t(" (average linkage on the metric's distance).") : ".");
    this.map.show({ title, note, spec }, this.othersIn(data, order));
    this.groups.replaceChildren(...this.describeGroups(groups, data.dropped));
  }

  /** The other runs' matrices of this layer and metric, in the same order of experts. */
  private othersIn({ layer, metric, numExperts }: SimilarityPanelData, order: readonly number[]): OtherMap[] {
    return this.others.flatMap(({ name, data }) => {
      if (data.layer !== layer || data.metric !== metric) return [];
      const theirs = data.numExperts === numExperts ? order : Array.from({ length: data.numExperts }, (_, i) => i);
      const labels = theirs.map(String);
      const axes = { rows: { title: t("Expert"), labels }, columns: { title: t("Other expert"), labels } };
      return [{ name, values: reorder(data.matrix.values, theirs), ...axes }];
    });
  }

  private describeGroups(groups: number[][], dropped: number[]): HTMLElement[] {
    const lines: HTMLElement[] = [];
    if (groups.length > 0) {
      const text = groups.map((group) => `{${group.join(", ")}}`).join(", ");
      lines.push(element("p", {}, t("Merge groups of the plan ({0}): {1}.", groups.length, text)));
    }
    if (dropped.length > 0)
      lines.push(element("p", {}, t("Dropped by the plan ({0}): experts {1}.", dropped.length, dropped.join(", "))));
    return lines;
  }

  private selectedIn(data: SimilarityPanelData, order: readonly number[]): HeatmapSpec["selected"] {
    const { selection } = this;
    if (selection?.layer !== data.layer || selection.expert === null) return null;
    const row = order.indexOf(selection.expert);
    return row < 0 ? null : { row, column: null };
  }
}
