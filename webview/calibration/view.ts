import type { MetricsLine } from "../../src/protocol/metrics";
import type { PageContext, ToPage } from "../../src/protocol/pageMessages";
import type { CalibrationPanelData } from "../../src/protocol/panels";
import { verdictWords } from "../../src/protocol/verdict";
import { Figure } from "../common/charts/figure";
import { lineChart, type LineSpec } from "../common/charts/lineChart";
import { seriesTable } from "../common/charts/chartTables";
import { element } from "../common/dom";
import { facts } from "../common/facts";
import { count, decimal } from "../common/format";
import type { OtherRun, PageServices, View } from "../common/page";
import { Toggle } from "../common/toolkit";
import { untrusted } from "../common/untrusted";
import { lossWords } from "./lossWords";
import { mergeMetrics } from "./merge";
import { smoothingSpan, smoothTraining } from "./smoothing";
import { t } from "../common/translate";

const noUpdates = t("No update was finished yet. The first appears here as soon as it is.");

/** Router KD as it runs: training and held-out KL, learning rate, gradient norm, best step, verdict. */
export class CalibrationView implements View<"calibration"> {
  readonly element: HTMLElement;
  private data: CalibrationPanelData | undefined;
  private others: readonly OtherRun<"calibration">[] = [];
  private waiting: MetricsLine[] = [];
  private frame = 0;
  private readonly verdict = element("div", { class: "notice", "data-verdict": true, hidden: true });
  private readonly summary = element("dl", { class: "facts" });
  private readonly unlike = element("p", { class: "notice", hidden: true });
  private readonly loss: Figure<LineSpec>;
  private readonly rate: Figure<LineSpec>;
  private readonly norm: Figure<LineSpec>;

  constructor(private readonly services: PageServices) {
    this.loss = new Figure("loss", lineChart, services);
    this.rate = new Figure("learningRate", lineChart, services);
    this.norm = new Figure("gradientNorm", lineChart, services);
    const log = new Toggle(t("Logarithmic KL axis"), services.persisted.flag("log"), (value) => {
      services.persisted.set("log", value);
      this.draw();
    });
    const smooth = new Toggle(t("Smooth training KL"), services.persisted.flag("smooth"), (value) => {
      services.persisted.set("smooth", value);
      this.draw();
    });
    this.element = element(
      "div",
      {},
      this.verdict,
      this.summary,
      element("div", { class: "toolbar" }, log.element, smooth.element),
      this.unlike,
      this.loss.element,
      element("div", { class: "figures" }, this.rate.element, this.norm.element),
    );
  }

  show(data: CalibrationPanelData, _context: PageContext, others: readonly OtherRun<"calibration">[]): void {
    this.data = data;
    // Curves of other losses are other quantities: they share no axis.
    this.others = others.filter((other) => (other.data.loss ?? "kd") === (data.loss ?? "kd"));
    const left = others.length - this.others.length;
    this.unlike.hidden = left === 0;
    this.unlike.textContent = t(
      "{0} of the other runs minimised another loss, which is another quantity: they are not drawn here.",
      left,
    );
    this.draw();
  }

  update(message: Extract<ToPage, { type: "update" }>): void {
    if (message.page !== "calibration") return;
    this.waiting.push(...message.lines);
    // Lines may come faster than frames.
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      if (!this.data) return;
      this.data = mergeMetrics(this.data, this.waiting);
      this.waiting = [];
      this.draw();
    });
  }

  private draw(): void {
    const { data } = this;
    if (!data) return;
    this.drawSummary(data);
    if (data.updates.length === 0 && data.heldOut.length === 0) {
      this.loss.showEmpty(t("KL to the teacher"), noUpdates);
      this.rate.showEmpty(t("Learning rate"), noUpdates);
      this.norm.showEmpty(t("Gradient norm"), noUpdates);
      return;
    }
    const best = data.heldOut.find(({ step }) => step === data.bestStep);
    const words = lossWords(data.loss);
    const training = data.updates.map(({ step, loss: y }) => ({ x: step, y }));
    const smoothed = this.services.persisted.flag("smooth");
    const loss: LineSpec = {
      x: { title: t("Update") },
      y: { title: words.axis, log: this.services.persisted.flag("log") },
      series: [
        smoothed
          ? {
              label: t("training, mean of {0} updates", smoothingSpan(training.length)),
              points: smoothTraining(training),
            }
          : { label: "training", points: training },
        {
          label: "held-out",
          points: data.heldOut.map((look) => ({ x: look.step, y: words.heldOutValue(look) })),
          pronounced: true,
        },
        ...this.others.map(({ name, data: { heldOut } }) => ({
          label: `held-out, ${name}`,
          points: heldOut.map((look) => ({ x: look.step, y: words.heldOutValue(look) })),
          pronounced: true,
        })),
      ],
      format: (value) => decimal(value, 4),
      marker: best
        ? { x: best.step, label: t("best: update {0}, {1}", best.step, decimal(words.heldOutValue(best), 4)) }
        : null,
      height: 320,
    };
    const { title } = words;
    this.loss.show({
      title,
      note: words.note,
      spec: loss,
      table: seriesTable(title, loss),
    });
    this.single(this.rate, t("Learning rate by update"), t("learning rate"), data, (update) => update.learningRate);
    this.single(
      this.norm,
      t("Gradient norm by update"),
      t("global norm before clipping"),
      data,
      (update) => update.gradientNorm,
    );
  }

  private single(
    figure: Figure<LineSpec>,
    title: string,
    unit: string,
    data: CalibrationPanelData,
    value: (update: CalibrationPanelData["updates"][number]) => number,
  ): void {
    const spec: LineSpec = {
      x: { title: t("Update") },
      y: { title: unit, min: 0 },
      series: [{ label: unit, points: data.updates.map((update) => ({ x: update.step, y: value(update) })) }],
      format: (v) => decimal(v, 3),
    };
    figure.showLater({ title, note: null, spec, table: seriesTable(title, spec) });
  }

  private drawSummary(data: CalibrationPanelData): void {
    const last = data.updates.at(-1);
    const first = data.heldOut[0];
    const best = data.heldOut.find(({ step }) => step === data.bestStep);
    const latest = data.heldOut.at(-1);
    const done = last?.step ?? 0;
    const { training, heldOut, unit, heldOutValue } = lossWords(data.loss);
    const shown = (look: (typeof data.heldOut)[number] | undefined) =>
      look ? t("{0} nats a token (update {1})", decimal(heldOutValue(look), 5), look.step) : "–";
    facts(this.summary, [
      [t("Updates"), data.totalUpdates === null ? count(done) : `${count(done)} of ${count(data.totalUpdates)}`],
      ...(data.provider === undefined ? [] : [[t("Computed on"), data.provider] as const]),
      [t("Latest {0}", training), last ? `${decimal(last.loss, 5)} ${unit}` : "–"],
      [t("{0} at the start", heldOut.replace("held", "Held")), shown(first)],
      [t("Latest {0}", heldOut), shown(latest)],
      [t("Best {0}", heldOut), shown(best)],
    ]);
    this.verdict.hidden = data.verdict === null;
    if (!data.verdict) return;
    const { verdict, trainedOn, text } = data.verdict;
    this.verdict.className = `notice ${verdict === "recovered" && !trainedOn ? "good" : "warning"}`;
    // The sentence names the verdict itself, for where it stands alone.
    const named = text.toLowerCase().startsWith(`${verdict}: `);
    const said = named ? text.slice(verdict.length + 2) : text;
    this.verdict.replaceChildren(
      element("strong", {}, t("Verdict: {0}. ", verdictWords(verdict, trainedOn))),
      untrusted(said, 400),
    );
  }
}
