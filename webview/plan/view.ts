import type { PlanEdit, PlanMap } from "../../src/protocol/panels";
import type { PlanAction, Selection } from "../../src/protocol/pageMessages";
import type { PlanData } from "../../src/protocol/pageData";
import { Figure } from "../common/charts/figure";
import { heatmap } from "../common/charts/heatmap";
import type { HeatmapSpec } from "../common/charts/heatmapSpec";
import { matrixTable } from "../common/charts/chartTables";
import { element } from "../common/dom";
import { facts } from "../common/facts";
import { bytes, decimal, parameters, percent } from "../common/format";
import { request } from "../common/messaging";
import { messageOf, type PageServices, type View } from "../common/page";
import { Segments } from "../common/segments";
import { plainLabel } from "../common/text";
import { button, Select } from "../common/toolkit";
import { t } from "../common/translate";
import { untrusted } from "../common/untrusted";
import { AmountSliders } from "./amounts";
import { CellPanel } from "./cell";
import { countDifferences, differenceMap } from "./differences";

const countNames = ["uniform", "by-layer"] as const;

/** A compression plan: layers x experts, edited by click, key and slider; every edit can be undone by VS Code. */
export class PlanPage implements View<"plan"> {
  readonly element: HTMLElement;
  private data: PlanData | undefined;
  private selection: Selection | null = null;
  private readonly notices = element("div", {});
  private readonly sizes = element("dl", { class: "facts", "data-sizes": true, "aria-live": "polite" });
  private readonly colour: Select<string>;
  private readonly counts: Segments<(typeof countNames)[number]>;
  private readonly buttons = element("div", { class: "buttons" });
  private readonly figure: Figure<HeatmapSpec>;
  private readonly cell: CellPanel;
  private readonly amounts: AmountSliders;
  private readonly notes = element("div", { "data-notes": true });

  constructor(private readonly services: PageServices) {
    this.colour = new Select<string>(t("Colour"), (id) => {
      services.persisted.set("colour", id);
      this.draw();
    });
    this.counts = new Segments(
      t("Experts kept"),
      [
        { value: "uniform", label: t("Same in every layer") },
        { value: "by-layer", label: t("By layer") },
      ],
      (value) => {
        this.edit({ kind: "counts", value });
      },
    );
    this.figure = new Figure(
      "plan",
      heatmap,
      services,
      t("Arrow keys move the cursor; Enter does what a click does. Ctrl+Z undoes."),
    );
    this.cell = new CellPanel((edit) => {
      this.edit(edit);
    });
    this.amounts = new AmountSliders(t("Amounts"), ({ layer, name }, value) => {
      this.edit({ kind: "amount", layer, name, value });
    });
    this.element = element(
      "div",
      {},
      this.notices,
      this.sizes,
      this.buttons,
      element("div", { class: "toolbar" }, this.colour.element, this.counts.element),
      element(
        "div",
        { class: "beside" },
        this.figure.element,
        element("div", { class: "aside" }, this.cell.element, this.amounts.element),
      ),
      this.notes,
    );
    services.onSettings(() => {
      this.draw();
    });
  }

  show(data: PlanData): void {
    this.data = data;
    const { view, readOnly } = data;
    this.counts.element.hidden = view.counts === null;
    if (view.counts !== null) this.counts.show(view.counts, readOnly === null ? countNames : [view.counts]);
    this.notices.replaceChildren(...this.noticesOf(data));
    this.buttons.replaceChildren(...this.buttonsOf(data));
    this.amounts.show(view.amounts, readOnly !== null);
    facts(this.sizes, this.sizesOf(data));
    const notes = view.notes.map((note) => element("li", {}, untrusted(note, 300)));
    this.notes.replaceChildren(
      ...(notes.length > 0
        ? [element("details", {}, element("summary", {}, t("Notes ({0})", notes.length)), element("ul", {}, ...notes))]
        : []),
    );
    this.draw();
  }

  select(selection: Selection): void {
    this.selection = selection;
    this.draw();
  }

  private draw(): void {
    const { data } = this;
    if (!data) return;
    const { view, other, readOnly } = data;
    const difference = other && differenceMap(view, other.view, t);
    const maps = [...view.maps, ...(difference ? [difference] : [])];
    const chosen = this.services.persisted.choice(
      "colour",
      maps.map(({ id }) => id),
    );
    this.colour.set(
      maps.map(({ id, label }) => ({ value: id, label: plainLabel(label, 60) })),
      chosen,
    );
    const map = maps.find(({ id }) => id === chosen);
    if (!map || map.values.length === 0) this.figure.showEmpty(t("Plan"), t("The plan names no layer."));
    else this.drawMap(map, data, readOnly === null);
    this.cell.show(view, this.selection, readOnly !== null);
  }

  private drawMap(map: PlanMap, { view, other }: PlanData, editable: boolean): void {
    const spec: HeatmapSpec = {
      rows: { title: t("Layer"), labels: view.layers.map(String) },
      columns: { title: map.columnTitle, labels: map.columns },
      values: map.values,
      quantity: plainLabel(map.quantity, 60),
      format: (value) => decimal(value, 4),
      colours: { colours: this.services.colourScale, diverging: map.values.some((v) => v !== null && v < 0) },
      nullMeaning: map.nullMeaning,
      crossed: { cells: new Set(map.crossed), meaning: map.crossedMeaning },
      selected: this.selectedIn(view.layers),
      onSelect: (row, column) => {
        const selection = { layer: view.layers[row]!, expert: column };
        this.selection = selection;
        this.services.select(selection);
        this.draw();
        if (editable && (view.click === "keep" || view.click === "bits")) this.edit({ kind: "expert", ...selection });
      },
    };
    const differences = countDifferences(other && differenceMap(view, other.view, t));
    const compared =
      other &&
      (differences
        ? t(
            "{0} cells in {1} layers differ from {2}.",
            differences.cells,
            differences.layers,
            plainLabel(other.name, 60),
          )
        : t("{0} is another kind of plan: they cannot be compared.", plainLabel(other.name, 60)));
    const clicks = {
      keep: t("A click or Enter drops or keeps an expert."),
      bits: t("A click or Enter gives the next number of bits."),
      group: null,
    };
    const note = [editable && view.click ? clicks[view.click] : null, compared].filter(Boolean).join(" ");
    this.figure.show({ title: map.label, note: note === "" ? null : note, spec, table: matrixTable(spec) });
  }

  private selectedIn(layers: readonly number[]): HeatmapSpec["selected"] {
    const row = this.selection ? layers.indexOf(this.selection.layer) : -1;
    return row < 0 ? null : { row, column: this.selection!.expert };
  }

  private noticesOf({ view, readOnly }: PlanData): HTMLElement[] {
    return [
      ...(view.problem === null
        ? []
        : [
            element(
              "div",
              { class: "notice error", role: "alert" },
              t("This plan cannot be applied:"),
              " ",
              untrusted(view.problem, 400),
            ),
          ]),
      ...(readOnly === null ? [] : [element("div", { class: "notice" }, untrusted(readOnly, 400))]),
    ];
  }

  private buttonsOf({ view, readOnly, other }: PlanData): HTMLElement[] {
    const one = (label: string, action: PlanAction, primary = false): HTMLElement =>
      button(
        label,
        () => {
          request("planAction", { action }).catch((error: unknown) => {
            this.services.notify(messageOf(error));
          });
        },
        { primary },
      );
    return [
      ...(view.checkpoint === null ? [one(t("Choose checkpoint…"), "chooseCheckpoint", true)] : []),
      ...(view.checkpoint !== null && view.problem === null ? [one(t("Compress with this plan…"), "apply", true)] : []),
      ...(readOnly !== null && view.checkpoint !== null ? [one(t("Edit a copy"), "editCopy")] : []),
      one(other ? t("Compare with another plan…") : t("Compare with a plan…"), "compare"),
      ...(other ? [one(t("Stop comparing"), "stopComparing")] : []),
      one(t("Open as text"), "openText"),
    ];
  }

  private sizesOf({
    view: { method, paradigm, checkpoint, sizes },
    other,
  }: PlanData): (readonly [string, string | HTMLElement])[] {
    const ofWhole = (format: (value: number) => string, part: number, whole: number): string =>
      t("{0} of {1} ({2})", format(part), format(whole), percent(whole === 0 ? null : part / whole));
    const planned = sizes?.planned;
    const theirs = other?.view.sizes?.planned;
    return [
      [t("Plan"), untrusted(`${method}, ${paradigm}`, 80)],
      ...(checkpoint === null ? [] : [[t("Checkpoint"), untrusted(checkpoint, 80)] as const]),
      ...(sizes && planned
        ? ([
            [t("Parameters"), ofWhole(parameters, planned.parameters, sizes.whole.parameters)],
            [t("Size"), ofWhole(bytes, planned.bytes, sizes.whole.bytes)],
          ] as const)
        : []),
      ...(other && theirs ? [[t("Size of the other plan"), bytes(theirs.bytes)] as const] : []),
    ];
  }

  private edit(edit: PlanEdit): void {
    request("planEdit", { edit }).then(
      ({ said }) => {
        this.services.notify(null);
        this.services.announce(said);
      },
      (error: unknown) => {
        this.services.notify(t("Not changed: {0}", messageOf(error)));
        // A slider shows again what the plan says.
        if (this.data) this.show(this.data);
      },
    );
  }
}
