import type { PageContext, Selection } from "../../src/protocol/pageMessages";
import type { ExpertPanelData, SimilarityMetric } from "../../src/protocol/panels";
import { element, uniqueId } from "./dom";
import { facts } from "./facts";
import { count, decimal, percent } from "./format";
import { request } from "./messaging";
import { messageOf, type PageServices } from "./page";
import { TableView } from "./tableView";
import { plainLabel, visibleSpaces } from "./text";
import { Select } from "./toolkit";
import { t } from "./translate";
import { untrusted } from "./untrusted";

/** What a profile and the plan know of one expert, beside the chart that it was chosen in; follows other panels once open. */
export class ExpertPanel {
  readonly element: HTMLElement;
  private readonly heading = element("h2", { id: uniqueId("expert") });
  private readonly body = element("div", {});
  private readonly metric: Select<SimilarityMetric>;
  private chosen: SimilarityMetric | undefined;
  private shown: Selection | null = null;
  private data: ExpertPanelData | null = null;
  private asked = 0;

  constructor(
    private readonly services: PageServices,
    /** Called when another expert is chosen here. */
    private readonly chooses: (selection: Selection) => void,
  ) {
    const close = element("button", { type: "button", class: "action", "aria-label": t("Close") }, "✕");
    close.addEventListener("click", () => {
      this.close();
    });
    this.metric = new Select<SimilarityMetric>(t("Similar by"), (metric) => {
      this.chosen = metric;
      this.draw();
    });
    const header = element("div", { class: "figure-header" }, this.heading, close);
    this.element = element(
      "section",
      { class: "aside", "data-expert": true, "aria-labelledby": this.heading.id, hidden: true },
      header,
      this.body,
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
  }

  /** Shows an expert; a whole layer is none. */
  open({ layer, expert }: Selection): void {
    const { shown } = this;
    if (expert === null || (shown?.layer === layer && shown.expert === expert && !this.element.hidden)) return;
    this.shown = { layer, expert };
    this.element.hidden = false;
    this.load(layer, expert);
  }

  private load(layer: number, expert: number): void {
    const question = ++this.asked;
    request("expert", { layer, expert }).then(
      (data) => {
        if (question !== this.asked) return;
        this.data = data;
        this.draw();
      },
      (error: unknown) => {
        if (question !== this.asked) return;
        this.body.replaceChildren(element("p", { class: "notice error" }, untrusted(messageOf(error), 300)));
      },
    );
  }

  /** The same where the panel is open. */
  follow(selection: Selection): void {
    if (!this.element.hidden) this.open(selection);
  }

  /** The page has other data, of another run perhaps. */
  reload(_context: PageContext): void {
    if (this.shown?.expert != null) this.load(this.shown.layer, this.shown.expert);
  }

  private close(): void {
    this.asked++;
    this.element.hidden = true;
    this.shown = null;
  }

  private draw(): void {
    const { shown, data } = this;
    if (!shown) return;
    this.heading.textContent = t("Layer {0}, expert {1}", shown.layer, shown.expert!);
    if (!data) {
      this.body.replaceChildren(element("p", {}, t("The profile of this run knows no such expert.")));
      return;
    }
    const list = element("dl", { class: "facts" });
    const ofLayer = (routed: number, tokens: number): string =>
      t("{0} of {1} tokens ({2})", count(routed), count(tokens), percent(tokens === 0 ? null : routed / tokens));
    facts(list, [
      ...(data.fate ? [[t("Plan"), untrusted(data.fate.text, 300)] as const] : []),
      [t("Routed"), ofLayer(data.routed, data.tokens)],
      [t("Mean routing weight"), decimal(data.meanRoutingWeight)],
      ...(data.domains.length > 1
        ? data.domains.map(({ name, routed, tokens }) => [plainLabel(name, 40), ofLayer(routed, tokens)] as const)
        : []),
    ]);
    this.body.replaceChildren(list, ...this.tokens(data), ...this.scores(data), ...this.neighbours(data));
    const said = data.fate ? `. ${data.fate.text}` : "";
    this.services.announce(`${this.heading.textContent}: ${ofLayer(data.routed, data.tokens)}${said}`);
  }

  private tokens({ top, routed }: ExpertPanelData): HTMLElement[] {
    const heading = element("h3", {}, t("Tokens with the largest routing weights"));
    if (top === null)
      return [heading, element("p", { class: "muted" }, t("This profile kept no tokens; profile again to see them."))];
    if (top.length === 0 || routed === 0) return [];
    const lines = top.map(({ weight, before, token, after, sequence, domain }) =>
      element(
        "li",
        { title: [t("Sequence {0}", sequence), plainLabel(domain, 60)].filter(Boolean).join(", ") },
        element("span", { class: "number" }, decimal(weight, 3)),
        " ",
        element(
          "bdi",
          { class: "untrusted" },
          inContext(before),
          element("mark", {}, inContext(token)),
          inContext(after),
        ),
      ),
    );
    return [heading, element("ol", { class: "tokens-in-context", "data-top-tokens": true }, ...lines)];
  }

  private scores({ scores }: ExpertPanelData): HTMLElement[] {
    const table = new TableView(
      {
        caption: t("Scores by method; place 1 stays longest"),
        columns: [
          { label: t("Method") },
          { label: t("Score"), format: (value) => decimal(value) },
          { label: t("Place"), format: (value) => (value === null ? "–" : t("{0} of {1}", value, scores[0]?.of ?? 0)) },
        ],
        rowCount: scores.length,
        cell: (row, column) => [scores[row]!.method, scores[row]!.score, scores[row]!.place][column] ?? null,
      },
      { visibleRows: 6 },
    );
    return [table.element];
  }

  private neighbours({ similar, expert, layer }: ExpertPanelData): HTMLElement[] {
    const metrics = similar.map(({ metric }) => metric);
    const metric = metrics.find((one) => one === this.chosen) ?? metrics[0];
    const row = similar.find((one) => one.metric === metric);
    if (!metric || !row) return [];
    const labels = metricNames();
    this.metric.set(
      metrics.map((value) => ({ value, label: labels[value] })),
      metric,
    );
    const sign = metric === "output-distance" ? 1 : -1;
    const order = row.values
      .map((value, other) => ({ value, other }))
      .filter(({ other, value }) => other !== expert && value !== null)
      .sort((a, b) => sign * (a.value! - b.value!) || a.other - b.other);
    const table = new TableView(
      {
        caption: t("Experts of layer {0}, the nearest first", layer),
        columns: [
          { label: t("Expert"), format: String },
          { label: labels[metric], format: (value) => decimal(value) },
        ],
        rowCount: order.length,
        cell: (at, column) => (column === 0 ? order[at]!.other : order[at]!.value),
      },
      {
        visibleRows: 6,
        open: (at) => {
          this.chooses({ layer, expert: order[at]!.other });
        },
      },
    );
    return [this.metric.element, table.element];
  }
}

const inContext = (text: string): string => plainLabel(visibleSpaces(text), 80);

/** Names of the similarity metrics, short. */
function metricNames(): Record<SimilarityMetric, string> {
  return {
    "router-logit-cosine": t("Cosine of router logits"),
    "output-cosine": t("Cosine of mean outputs"),
    "output-distance": t("Distance of mean outputs"),
    "weight-cosine": t("Cosine of weights"),
  };
}
