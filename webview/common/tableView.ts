import { element } from "./dom";
import { decimal } from "./format";
import type { TableModel } from "./tableModel";
import { cutMiddle, plainLabel, showInvisible } from "./text";

const rowHeight = 24;
/** Rows rendered beyond the visible ones, so that scrolling by one screen shows no gap. */
const overscan = 10;
const maxVisibleRows = 16;

export interface TableViewOptions {
  /** Called when a row is opened with Enter or a click; its presence makes rows selectable. */
  open?: (row: number) => void;
  /** Called when a header is activated; its presence makes columns sortable. */
  sort?: (column: number) => void;
  sorted?: { column: number; descending: boolean };
  visibleRows?: number;
}

/**
 * A real table that renders only the rows in sight, so 100,000 rows cost no more than 40. Arrow keys, Page Up/Down, Home
 * and End move the row cursor; screen readers get each row's number through aria-rowindex.
 */
export class TableView {
  readonly element: HTMLElement;
  private readonly table = element("table", {});
  private readonly body = element("tbody", {});
  private readonly before = element("tr", { class: "spacer", "aria-hidden": "true" }, element("td", {}));
  private readonly after = element("tr", { class: "spacer", "aria-hidden": "true" }, element("td", {}));
  private cursor = 0;
  private first = -1;
  private last = -1;
  /** Pixels of the rows that are to be in sight, which a table that was shorter does not have yet. */
  private wanted = maxVisibleRows * rowHeight;

  constructor(
    private model: TableModel,
    private options: TableViewOptions = {},
  ) {
    this.element = element("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": model.caption });
    this.element.append(this.table);
    this.element.addEventListener("scroll", () => {
      this.render();
    });
    this.element.addEventListener("keydown", (event) => {
      this.onKey(event);
    });
    this.show(model, options);
  }

  /** Replaces the content; the scroll position stays where it still makes sense. */
  show(model: TableModel, options: TableViewOptions = this.options): void {
    this.model = model;
    this.options = options;
    this.cursor = Math.min(this.cursor, Math.max(0, model.rowCount - 1));
    this.table.setAttribute("aria-rowcount", String(model.rowCount + 1));
    this.table.setAttribute("role", options.open ? "grid" : "table");
    this.element.setAttribute("aria-label", model.caption);
    const visible = Math.min(model.rowCount, options.visibleRows ?? maxVisibleRows);
    this.wanted = visible * rowHeight;
    this.element.style.maxHeight = `${(visible + 2) * rowHeight + 4}px`;
    this.table.replaceChildren(element("caption", {}, model.caption), this.header(), this.body);
    this.first = -1;
    this.render();
  }

  /** Scrolls to a row and marks it. */
  reveal(row: number): void {
    this.cursor = row;
    const top = row * rowHeight;
    const height = this.element.clientHeight - 2 * rowHeight;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + rowHeight > this.element.scrollTop + height) this.element.scrollTop = top + rowHeight - height;
    this.first = -1;
    this.render();
  }

  private header(): HTMLElement {
    const { sort, sorted } = this.options;
    const cells = this.model.columns.map(({ label, width, format }, column) => {
      const direction = sorted?.column === column ? (sorted.descending ? "descending" : "ascending") : "none";
      const cell = element("th", {
        scope: "col",
        class: format ? "number" : null,
        "aria-sort": sort ? direction : null,
      });
      if (width !== undefined) cell.style.width = `${width}ch`;
      if (!sort) {
        cell.append(label);
        return cell;
      }
      const arrow = direction === "none" ? "" : direction === "ascending" ? " ▲" : " ▼";
      const press = element("button", { type: "button", class: "sort" }, label + arrow);
      press.addEventListener("click", () => {
        sort(column);
      });
      cell.append(press);
      return cell;
    });
    return element("thead", {}, element("tr", { "aria-rowindex": 1 }, ...cells));
  }

  private render(): void {
    const { rowCount } = this.model;
    const height = Math.max(this.element.clientHeight, this.wanted);
    // After a filter the old scroll position may lie beyond the end.
    const top = Math.min(this.element.scrollTop, Math.max(0, (rowCount + 2) * rowHeight - height));
    const first = Math.max(0, Math.floor(top / rowHeight) - overscan);
    const last = Math.min(rowCount, Math.ceil((top + height) / rowHeight) + overscan);
    if (first === this.first && last === this.last) return;
    this.first = first;
    this.last = last;
    const hadFocus = this.body.contains(document.activeElement);
    const rows: HTMLElement[] = [];
    for (let row = first; row < last; row++) rows.push(this.row(row));
    setHeight(this.before, first * rowHeight);
    setHeight(this.after, (rowCount - last) * rowHeight);
    this.body.replaceChildren(...(first > 0 ? [this.before] : []), ...rows, ...(last < rowCount ? [this.after] : []));
    if (hadFocus) this.focusCursor();
  }

  private row(row: number): HTMLElement {
    const { open } = this.options;
    const cells = this.model.columns.map(({ format }, column) => {
      const value = this.model.cell(row, column);
      if (typeof value !== "string")
        return element(
          "td",
          { class: format || typeof value === "number" ? "number" : null },
          (format ?? ((v: number | null) => decimal(v, 6)))(value),
        );
      const full = showInvisible(value.slice(0, 20_000));
      const shown = cutMiddle(full, 90);
      return element("td", { title: shown === full ? null : plainLabel(full, 2000) }, element("bdi", {}, shown));
    });
    const made = element("tr", { "aria-rowindex": row + 2 }, ...cells);
    if (open) {
      const current = row === this.cursor;
      made.tabIndex = current ? 0 : -1;
      made.setAttribute("aria-selected", String(current));
      made.addEventListener("click", () => {
        this.moveTo(row);
        open(row);
      });
    }
    return made;
  }

  private onKey(event: KeyboardEvent): void {
    const { open } = this.options;
    if (!open || event.target instanceof HTMLButtonElement || this.model.rowCount === 0) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / rowHeight) - 2);
    const moves: Record<string, number> = {
      ArrowDown: this.cursor + 1,
      ArrowUp: this.cursor - 1,
      PageDown: this.cursor + page,
      PageUp: this.cursor - page,
      Home: 0,
      End: this.model.rowCount - 1,
    };
    const target = moves[event.key];
    if (target !== undefined) {
      event.preventDefault();
      this.moveTo(Math.max(0, Math.min(this.model.rowCount - 1, target)));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open(this.cursor);
    }
  }

  private moveTo(row: number): void {
    this.reveal(row);
    this.focusCursor();
  }

  private focusCursor(): void {
    this.body.querySelector<HTMLElement>(`tr[aria-rowindex="${this.cursor + 2}"]`)?.focus({ preventScroll: true });
  }
}

function setHeight(spacer: HTMLElement, height: number): void {
  (spacer.firstElementChild as HTMLElement).style.height = `${height}px`;
}
