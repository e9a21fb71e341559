import type { ToPage } from "../../src/protocol/pageMessages";
import type {
  PlaygroundChange,
  PlaygroundData,
  PlaygroundQuestion,
  PlaygroundRun,
} from "../../src/protocol/playground";
import { maxSideBySide } from "../../src/protocol/scoring";
import { element } from "../common/dom";
import { saveFile, fileNameOf } from "../common/exportMenu";
import { decimal, percent } from "../common/format";
import { request } from "../common/messaging";
import { messageOf, type PageServices, type View } from "../common/page";
import { scaleColour, textOn } from "../common/tokenColours";
import { button, Select } from "../common/toolkit";
import { t } from "../common/translate";
import { untrusted } from "../common/untrusted";
import { colourings, largestOf, type Colouring } from "./colouring";
import { Column, isAtWork, teacherOf } from "./column";
import { asJson, asMarkdown } from "./exported";
import { PlaygroundForm } from "./form";

type Update = Extract<ToPage, { type: "update" }>;

/** One prompt, answered by up to three checkpoints side by side; each token coloured by what the models say of it. */
export class PlaygroundView implements View<"playground"> {
  readonly element: HTMLElement;
  private data: PlaygroundData | undefined;
  private columns: Column[] = [];
  private readonly form: PlaygroundForm;
  private readonly colouring: Select<Colouring>;
  private readonly layer: Select<number>;
  private readonly add: HTMLElement;
  private readonly status = element("p", { role: "status", "data-status": true });
  private readonly problem = element("p", { class: "notice warning", hidden: true, "data-problem": true });
  private readonly legend = element("p", { class: "legend", "data-legend": true });
  private readonly host = element("div", { class: "figures" });
  private readonly results: HTMLElement;
  private announced = "";

  constructor(private readonly services: PageServices) {
    this.form = new PlaygroundForm(
      services.persisted,
      (question) => this.ask(question),
      () => this.tell(request("playgroundCancel", {})),
    );
    this.colouring = new Select<Colouring>(t("Colour"), (value) => {
      services.persisted.set("colouring", value);
      this.draw();
    });
    this.layer = new Select<number>(t("Layer"), (layer) => this.askLayer(layer));
    this.add = button(t("Add Checkpoint..."), () => this.change({ action: "add", index: maxSideBySide - 1 }));
    this.results = element(
      "div",
      { class: "toolbar", hidden: true },
      this.colouring.element,
      this.layer.element,
      element(
        "span",
        { class: "figure-actions" },
        action(t("Copy"), () => this.copy()),
        action(t("Markdown"), () => this.save("text/markdown", asMarkdown)),
        action("JSON", () => this.save("application/json", asJson)),
      ),
    );
    this.element = element(
      "div",
      {},
      this.form.element,
      this.status,
      this.problem,
      this.results,
      this.legend,
      this.host,
      element("p", {}, this.add),
    );
    services.onSettings(() => this.draw());
    services.onTheme(() => this.draw());
  }

  show(data: PlaygroundData): void {
    this.data = data;
    this.form.show(data, isAtWork(data));
    this.add.hidden = data.models.length >= maxSideBySide;
    if (this.columns.length !== data.models.length) {
      this.columns = data.models.map((_, i) => new Column(i, this.services, (change) => this.change(change)));
      this.host.replaceChildren(...this.columns.map((column) => column.element));
    }
    for (const column of this.columns) column.show(data);
    this.draw();
  }

  update(message: Update): void {
    if (message.page !== "playground" || !this.data) return;
    const { change } = message;
    if ("run" in change) {
      const wasWorking = isAtWork(this.data);
      this.data = { ...this.data, run: change.run };
      const isWorking = isAtWork(this.data);
      if (wasWorking !== isWorking) {
        this.form.working(isWorking, true);
        this.add.toggleAttribute("disabled", isWorking);
        for (const column of this.columns) column.show(this.data);
      }
    } else {
      const column = this.data.run?.columns[change.column];
      if (!column) return;
      // A page that was drawn meanwhile has some of them already.
      column.tokens.splice(change.from, change.tokens.length, ...change.tokens);
    }
    for (const column of this.columns) column.show(this.data);
    this.draw();
  }

  private draw(): void {
    const { data } = this;
    if (!data) return;
    const { run } = data;
    const { persisted } = this.services;
    const teacher = teacherOf(data);
    const hasKl = teacher !== null && data.models.length > 1;
    const hasExperts = run?.scores?.layer !== null;
    const possible = colourings.filter((one) =>
      one === "kl" ? hasKl : one === "expert" || one === "weight" ? hasExperts : true,
    );
    const colouring = persisted.choice("colouring", possible) ?? "none";
    const labels: Record<Colouring, string> = {
      kl: t("KL to the teacher"),
      nll: t("Surprise (−ln p)"),
      expert: t("Expert with the largest routing weight"),
      weight: t("Largest routing weight"),
      none: t("No colour"),
    };
    this.colouring.set(
      possible.map((value) => ({ value, label: labels[value] })),
      colouring,
    );
    const scores = run?.scores ?? null;
    this.results.hidden = !run?.columns.some(({ tokens }) => tokens.length > 0);
    this.layer.element.hidden = !scores || scores.layers.length === 0;
    if (scores?.layer !== null && scores?.layer !== undefined)
      this.layer.set(
        scores.layers.map((value) => ({ value, label: t("Layer {0}", value) })),
        scores.layer,
      );
    const measure = colouring === "kl" || colouring === "nll" || colouring === "weight" ? colouring : null;
    const largest = scores && measure ? largestOf(scores, teacher, measure) : 0;
    for (const column of this.columns) column.draw({ colouring, largest });
    this.drawLegend(scores === null ? null : colouring, largest);
    this.drawStatus(run);
  }

  private drawLegend(colouring: Colouring | null, largest: number): void {
    const { data } = this;
    this.legend.hidden = colouring === null || colouring === "none";
    if (!data || this.legend.hidden) return;
    if (colouring === "expert") {
      const mapped = data.run?.scores?.texts.some(({ models }) =>
        models.some(({ routing }) => routing?.teacherExperts),
      );
      this.legend.textContent = mapped
        ? t(
            "Each expert has a colour of its own; a student's expert has that of the teacher's expert that it stands for.",
          )
        : t("Each expert has a colour of its own.");
      return;
    }
    const unit = colouring === "weight" ? "" : t("nats");
    const swatches = [0, 0.25, 0.5, 0.75, 1].map((share) => {
      const colour = scaleColour(share, this.services.colourScale);
      const swatch = element("span", { class: "token swatch" }, `${decimal(share * share * largest, 2)} ${unit}`);
      swatch.style.background = `rgb(${colour.join(", ")})`;
      swatch.style.color = textOn(colour);
      return swatch;
    });
    const teacher = teacherOf(data);
    const last = data.models.findLastIndex(({ role }) => role === "student");
    const whose =
      colouring === "kl" && teacher !== null && last >= 0
        ? [" ", t("On the teacher's response, of"), " ", untrusted(data.models[last]!.name, 40), "."]
        : [];
    this.legend.replaceChildren(...swatches, " ", t("The colour follows the square root."), ...whose);
  }

  private drawStatus(run: PlaygroundRun | null): void {
    const texts: Record<PlaygroundRun["state"], string> = {
      waiting: t("Waiting"),
      generating: t("Generating"),
      scoring: t("Comparing the responses, {0}", percent(run?.scored ?? 0)),
      done: t("Done"),
      cancelled: t("Cancelled"),
      failed: t("Failed"),
    };
    const { doSample, seed } = run?.question.options ?? { doSample: false, seed: 0 };
    const how = doSample ? t("sampled with seed {0}", seed) : t("the most likely token each time, no seed");
    const text = run === null ? "" : `${texts[run.state]} · ${how}`;
    if (text !== this.announced) this.status.textContent = text;
    this.announced = text;
    const problem = run?.problem ?? null;
    this.problem.hidden = problem === null;
    this.problem.replaceChildren(...(problem === null ? [] : [untrusted(problem, 600)]));
  }

  private ask(question: PlaygroundQuestion): void {
    this.tell(request("playgroundStart", question));
  }

  private askLayer(layer: number): void {
    this.tell(
      request("playgroundLayer", { layer }).then((scores) => {
        if (!this.data?.run || !scores) return;
        this.data = { ...this.data, run: { ...this.data.run, scores } };
        this.draw();
      }),
    );
  }

  private change(change: PlaygroundChange): void {
    this.tell(request("playgroundChange", change));
  }

  private copy(): void {
    if (!this.data) return;
    this.tell(
      request("copy", { text: asMarkdown(this.data) }).then(() => {
        this.services.announce(t("Copied"));
      }),
    );
  }

  private save(mime: "text/markdown" | "application/json", make: (data: PlaygroundData) => string): void {
    if (!this.data) return;
    const ending = mime === "text/markdown" ? "md" : "json";
    const fileName = `${fileNameOf(`playground ${this.services.title}`)}.${ending}`;
    this.tell(saveFile({ fileName, mime, encoding: "utf8", content: make(this.data) }));
  }

  /** Says what went wrong. */
  private tell(answer: Promise<unknown>): void {
    answer.then(
      () => {
        this.services.notify(null);
      },
      (error: unknown) => {
        this.services.notify(messageOf(error));
      },
    );
  }
}

function action(label: string, pressed: () => void): HTMLElement {
  const made = element("button", { type: "button", class: "action" }, label);
  made.addEventListener("click", pressed);
  return made;
}
