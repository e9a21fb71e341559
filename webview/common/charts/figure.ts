import { element, uniqueId } from "../dom";
import { exportMenu, type Exportable } from "../exportMenu";
import { measured, type PageServices } from "../page";
import type { TableModel } from "../tableModel";
import { TableView } from "../tableView";
import type { ChartKind, Drawn } from "./chartjs";
import { t } from "../translate";

export interface FigureContent<Spec> {
  /** Says what is drawn, including order or layer: also the name of exported files. */
  title: string;
  /** A sentence below the title, or null. */
  note: string | null;
  spec: Spec;
  /** The same numbers as text. */
  table: TableModel;
}

/** One chart with everything around it: title, note, table of the same numbers, exports, keyboard hint, empty state. */
export class Figure<Spec> {
  readonly element: HTMLElement;
  private readonly heading = element("h2", { id: uniqueId("figure") });
  private readonly note = element("p", { class: "figure-note muted", id: uniqueId("note") });
  private readonly plot = element("div", { class: "plot" });
  private readonly tableHost = element("div", {});
  private readonly empty = element("p", { class: "notice", hidden: true });
  private readonly actions: HTMLElement;
  private readonly tableButton = element("button", { type: "button", class: "action" }, t("Table"));
  private readonly hint: HTMLElement;
  private drawn: Drawn<Spec> | undefined;
  private table: TableView | undefined;
  private content: FigureContent<Spec> | undefined;
  private waiting: FigureContent<Spec> | undefined;

  constructor(
    private readonly id: string,
    private readonly kind: ChartKind<Spec>,
    private readonly services: PageServices,
    hint = t("Arrow keys move the cursor, Enter selects, the Table button shows the same numbers as text."),
  ) {
    this.hint = element("span", { class: "visually-hidden", id: uniqueId("hint") }, hint);
    this.actions = element(
      "span",
      { class: "figure-actions" },
      this.tableButton,
      exportMenu(() => this.exportable(), services),
    );
    this.element = element(
      "section",
      { class: "figure", "aria-labelledby": this.heading.id, "data-figure": id },
      element("div", { class: "figure-header" }, this.heading, this.actions),
      this.note,
      this.hint,
      this.empty,
      this.plot,
      this.tableHost,
    );
    this.tableButton.addEventListener("click", () => {
      services.persisted.set(this.tableKey, !this.tableShown);
      this.showTable();
      // Opened below the window's edge it would look as if nothing happened.
      if (this.tableShown) this.tableHost.scrollIntoView({ block: "nearest" });
    });
    services.onTheme(() => {
      if (this.content) this.drawn?.update(this.content.spec, services.theme);
    });
  }

  show(content: FigureContent<Spec>): void {
    this.waiting = undefined;
    this.content = content;
    this.heading.textContent = content.title;
    this.note.textContent = content.note ?? "";
    this.note.hidden = content.note === null;
    this.setEmpty(null);
    measured(`draw:${this.id}`, () => {
      if (this.drawn) this.drawn.update(content.spec, this.services.theme);
      else this.create(content.spec);
    });
    this.showTable();
  }

  /** The same, after the next frame was presented: for charts below the first, which must not wait for them. */
  showLater(content: FigureContent<Spec>): void {
    this.waiting = content;
    requestAnimationFrame(() =>
      requestAnimationFrame(() => {
        if (this.waiting === content) this.show(content);
      }),
    );
  }

  /** Says why there is nothing to draw. */
  showEmpty(title: string, reason: string): void {
    this.waiting = undefined;
    this.content = undefined;
    this.heading.textContent = title;
    this.note.hidden = true;
    this.setEmpty(reason);
    this.drawn?.destroy();
    this.drawn = undefined;
    this.showTable();
  }

  private create(spec: Spec): void {
    this.drawn = this.kind(this.plot, spec, this.services.theme, this.services.announce);
    const frame = this.plot.querySelector(".plot-frame");
    frame?.setAttribute("aria-labelledby", this.heading.id);
    frame?.setAttribute("aria-describedby", `${this.hint.id} ${this.note.id}`);
  }

  private setEmpty(reason: string | null): void {
    this.empty.textContent = reason ?? "";
    this.empty.hidden = reason === null;
    this.actions.hidden = reason !== null;
    this.plot.hidden = reason !== null;
  }

  private get tableKey(): string {
    return `table:${this.id}`;
  }

  private get tableShown(): boolean {
    return this.services.persisted.flag(this.tableKey);
  }

  private showTable(): void {
    const shown = this.tableShown && this.content !== undefined;
    this.tableButton.setAttribute("aria-pressed", String(this.tableShown));
    this.tableButton.setAttribute("aria-label", t("Table of {0}", this.content?.title ?? t("the chart")));
    this.tableHost.hidden = !shown;
    if (!shown || !this.content) return;
    if (this.table) this.table.show(this.content.table);
    else {
      this.table = new TableView(this.content.table);
      this.tableHost.append(this.table.element);
    }
  }

  private exportable(): Exportable | null {
    const { content, drawn } = this;
    if (!content || !drawn) return null;
    return { title: content.title, table: content.table, png: () => this.picture(content, drawn.canvas) };
  }

  /** The drawing on the editor's background, with its title: the canvas alone is transparent and nameless. */
  private picture({ title }: FigureContent<Spec>, drawing: HTMLCanvasElement): HTMLCanvasElement {
    const { theme } = this.services;
    const scale = drawing.width / Math.max(1, drawing.clientWidth);
    const margin = 12 * scale;
    const size = (theme.fontSize + 3) * scale;
    const canvas = element("canvas", {});
    canvas.width = drawing.width + 2 * margin;
    canvas.height = drawing.height + 2 * margin + size * 1.6;
    const pen = canvas.getContext("2d")!;
    pen.fillStyle = theme.background;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = theme.foreground;
    pen.font = `bold ${size}px ${theme.fontFamily}`;
    pen.textBaseline = "top";
    pen.fillText(title, margin, margin, canvas.width - 2 * margin);
    pen.drawImage(drawing, margin, margin + size * 1.6);
    return canvas;
  }
}
