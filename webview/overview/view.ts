import type { PageCommand, ToPage } from "../../src/protocol/pageMessages";
import type { OverviewData } from "../../src/protocol/pageData";
import type { RunSummary } from "../../src/protocol/panels";
import { Figure } from "../common/charts/figure";
import { lineChart, type LineSpec } from "../common/charts/lineChart";
import { seriesTable } from "../common/charts/chartTables";
import { element } from "../common/dom";
import { facts } from "../common/facts";
import { bytes, decimal, duration, parameters, percent } from "../common/format";
import type { PageServices, View } from "../common/page";
import { plainLabel } from "../common/text";
import { button } from "../common/toolkit";
import { untrusted } from "../common/untrusted";
import { t } from "../common/translate";

const recentShown = 5;
const engineNotes: Record<OverviewData["engine"]["state"], string | null> = {
  stopped: null,
  starting: t("The engine is starting."),
  ready: null,
  unavailable: t("The engine cannot compute here; checkpoints can still be inspected."),
  crashed: t("The engine stopped unexpectedly. The run can be resumed."),
};

/** The side panel's small view: what runs, how far it is, how the KL does, and what to do next. */
export class OverviewPage implements View<"overview"> {
  readonly element: HTMLElement;
  private readonly engine = element("div", { class: "notice warning", hidden: true });
  private readonly run = element("div", {});
  private readonly stage = element("p", { "data-stage": true });
  private readonly bar = element("progress", { max: 1, "aria-label": t("Progress of the run") });
  private readonly numbers = element("dl", { class: "facts" });
  private readonly buttons = element("div", { class: "buttons" });
  private readonly kl: Figure<LineSpec>;
  private readonly recent = element("ul", { class: "runs" });
  private readonly recentSection = element("section", {}, element("h2", {}, t("Recent runs")), this.recent);
  private shownButtons = "";

  constructor(private readonly services: PageServices) {
    this.kl = new Figure("kl", lineChart, services);
    this.element = element(
      "div",
      {},
      this.engine,
      this.run,
      this.stage,
      this.bar,
      this.numbers,
      this.buttons,
      this.kl.element,
      this.recentSection,
    );
  }

  show(data: OverviewData): void {
    this.showEngine(data);
    this.showRun(data);
    this.showButtons(data);
    this.showKl(data);
    this.recentSection.hidden = data.recentRuns.length === 0;
    this.recent.replaceChildren(...data.recentRuns.slice(0, recentShown).map((run) => this.recentRun(run)));
  }

  update(message: Extract<ToPage, { type: "update" }>): void {
    if (message.page === "overview") this.show(message.data);
  }

  private showEngine({ engine, trusted }: OverviewData): void {
    const note = trusted
      ? engineNotes[engine.state]
      : t("Restricted Mode: checkpoints can be inspected, nothing is run or written.");
    this.engine.hidden = note === null;
    this.engine.replaceChildren(
      note ?? "",
      ...(trusted && note !== null && engine.message !== null ? [" ", untrusted(engine.message, 300)] : []),
    );
  }

  private showRun({ run, progress, runFraction, runRemainingSeconds, latestLoss, trusted }: OverviewData): void {
    this.run.replaceChildren(
      ...(run
        ? [
            element("h2", {}, untrusted(run.name, 60)),
            element(
              "p",
              { class: "muted" },
              `${run.state}${run.method === null ? "" : ", "}`,
              run.method === null ? "" : untrusted(run.method, 40),
            ),
          ]
        : [
            element(
              "p",
              {},
              trusted
                ? t("No run yet. Open a checkpoint and choose Calibrate router, or start with the sample.")
                : t("No run yet."),
            ),
          ]),
      ...(run?.error ? [element("p", { class: "notice error" }, untrusted(run.error.message, 300))] : []),
    );
    // Between two stages, and before a stage's first report, the stage is known from the run alone.
    const stage = run?.state === "running" ? run.stages.find(({ state }) => state === "running") : undefined;
    this.stage.hidden = progress === null && !stage;
    this.bar.hidden = this.stage.hidden;
    if (!progress && stage) this.stage.replaceChildren(element("strong", {}, untrusted(stage.name ?? stage.id, 80)));
    if (runFraction === null) this.bar.removeAttribute("value");
    else this.bar.value = runFraction;
    if (progress) {
      this.stage.replaceChildren(
        element("strong", {}, progress.stage),
        ": ",
        untrusted(progress.message, 120),
        ` ${t("({0} of {1} {2})", decimal(progress.done, 6), decimal(progress.total, 6), progress.unit)}`,
      );
    }
    const working = progress !== null || stage !== undefined;
    facts(this.numbers, [
      ...(working ? [[t("Progress"), runFraction === null ? t("not known yet") : percent(runFraction)] as const] : []),
      ...(working
        ? [[t("Remaining"), runRemainingSeconds === null ? t("not known yet") : duration(runRemainingSeconds)] as const]
        : []),
      ...(latestLoss === null ? [] : [[t("Training KL"), t("{0} nats a token", decimal(latestLoss, 4))] as const]),
      ...(run?.steps ?? []).map(
        ({ name, parameters: count, bytes: size, klToTeacher, klHalfWidth }) =>
          [
            plainLabel(name, 40),
            t(
              "KL {0}, {1} parameters, {2}",
              `${decimal(klToTeacher, 4)}${klHalfWidth === null ? "" : ` ± ${decimal(klHalfWidth, 2)}`}`,
              parameters(count),
              bytes(size),
            ),
          ] as const,
      ),
      ...(run && run.klBefore !== null
        ? [[t("KL before"), t("{0} nats a token", decimal(run.klBefore, 4))] as const]
        : []),
      ...(run && run.klAfter !== null
        ? [[t("KL after"), t("{0} nats a token", decimal(run.klAfter, 4))] as const]
        : []),
      ...(run && run.verdict !== null ? [[t("Verdict"), untrusted(run.verdict, 100)] as const] : []),
      ...(run?.provider === undefined ? [] : [[t("Computed on"), run.provider] as const]),
    ]);
  }

  /** Rebuilt only when they change: an update a second must not take the focus away. */
  private showButtons({ run, trusted }: OverviewData): void {
    const offered: [string, PageCommand, boolean?][] = [];
    if (run?.state === "running") {
      if (trusted) offered.push([t("Cancel"), "cancelRun"]);
      offered.push([t("Router KD"), "openCalibration", true]);
    } else if (run && trusted && ["interrupted", "cancelled", "failed", "pending"].includes(run.state))
      offered.push([t("Resume"), "resumeRun", true]);
    if (run?.state === "done") offered.push([t("Report"), "openReport", true], [t("Divergence"), "openDivergence"]);
    if (run?.state !== "running" && trusted)
      offered.push([t("Calibrate router…"), "calibrateRouter", offered.length === 0]);
    if (!run && trusted) offered.push([t("Open sample"), "openSampleCheckpoint"]);
    const key = JSON.stringify([offered, run?.directory]);
    if (key === this.shownButtons) return;
    this.shownButtons = key;
    this.buttons.replaceChildren(
      ...offered.map(([label, command, primary]) =>
        button(
          label,
          () => {
            this.services.run(command, run?.directory);
          },
          { primary: primary === true },
        ),
      ),
    );
  }

  private showKl({ heldOut }: OverviewData): void {
    const title = t("Held-out KL so far");
    this.kl.element.hidden = heldOut.length === 0;
    if (heldOut.length === 0) return;
    const best = heldOut.filter((point) => point.best).at(-1);
    const spec: LineSpec = {
      x: { title: t("Update") },
      y: { title: t("KL, nats a token") },
      series: [{ label: t("held-out KL"), points: heldOut.map(({ step, kl }) => ({ x: step, y: kl })) }],
      format: (value) => decimal(value, 3),
      marker: best ? { x: best.step, label: `best ${decimal(best.kl, 3)}` } : null,
      height: 150,
    };
    this.kl.show({ title, note: null, spec, table: seriesTable(title, spec) });
  }

  private recentRun(run: RunSummary): HTMLElement {
    const open = element("button", { class: "link", type: "button" }, element("bdi", {}, plainLabel(run.name, 40)));
    const finished = run.state === "done";
    open.addEventListener("click", () => {
      this.services.run(finished ? "openReport" : "openRunFolder", run.directory);
    });
    const action = finished ? t("open its report") : t("open its folder");
    open.append(element("span", { class: "visually-hidden" }, `, ${action}`));
    const gain =
      run.klBefore !== null && run.klAfter !== null
        ? `, KL ${decimal(run.klBefore, 3)} → ${decimal(run.klAfter, 3)}`
        : "";
    return element("li", {}, open, element("span", { class: "muted" }, ` ${run.state}${gain}`));
  }
}
