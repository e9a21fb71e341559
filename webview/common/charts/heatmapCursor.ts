import { element } from "../dom";
import { measured } from "../page";
import type { Theme } from "../theme";
import type { Announce } from "./chartjs";
import { cellAt, type Area } from "./heatmapController";
import { describeCell, type HeatmapSpec } from "./heatmapSpec";

interface Cell {
  row: number;
  column: number;
}

/**
 * Pointer and keyboard on a heatmap. The crosshair lives on a canvas above the chart, so that moving it never redraws
 * the cells. Arrows move by one cell (with Ctrl by ten), Home/End and Page Up/Down to the edges, Enter selects.
 */
export class HeatmapCursor {
  private readonly overlay = element("canvas", { class: "overlay", "aria-hidden": "true" });
  private readonly tooltip = element("div", { class: "tooltip", "aria-hidden": "true", hidden: true });
  private area: Area = { left: 0, top: 0, width: 1, height: 1 };
  private cell: Cell | null = null;
  private size = { width: 0, height: 0 };

  constructor(
    private readonly frame: HTMLElement,
    private spec: HeatmapSpec,
    private theme: Theme,
    private readonly announce: Announce,
  ) {
    frame.append(this.overlay, this.tooltip);
    frame.tabIndex = 0;
    frame.setAttribute("role", "application");
    frame.setAttribute("aria-roledescription", "heatmap");
    frame.addEventListener("pointermove", (event) => {
      measured("hover", () => {
        this.hover(event);
      });
    });
    frame.addEventListener("pointerleave", () => {
      this.moveTo(null);
    });
    frame.addEventListener("click", () => {
      this.selectCell();
    });
    frame.addEventListener("keydown", (event) => {
      this.onKey(event);
    });
    frame.addEventListener("blur", () => {
      this.moveTo(null);
    });
  }

  show(spec: HeatmapSpec, theme: Theme): void {
    this.spec = spec;
    this.theme = theme;
    const { cell } = this;
    if (cell && (cell.row >= spec.rows.labels.length || cell.column >= spec.columns.labels.length)) this.cell = null;
    this.draw();
  }

  /** The chart was laid out anew. */
  resize(area: Area): void {
    this.area = area;
    const { clientWidth: width, clientHeight: height } = this.frame;
    if (width !== this.size.width || height !== this.size.height) {
      this.size = { width, height };
      this.overlay.width = width * devicePixelRatio;
      this.overlay.height = height * devicePixelRatio;
      this.overlay.style.width = `${width}px`;
      this.overlay.style.height = `${height}px`;
    }
    this.draw();
  }

  private hover(event: PointerEvent): void {
    const box = this.frame.getBoundingClientRect();
    this.moveTo(
      cellAt(
        this.area,
        this.spec.rows.labels.length,
        this.spec.columns.labels.length,
        event.clientX - box.left,
        event.clientY - box.top,
      ),
    );
  }

  private onKey(event: KeyboardEvent): void {
    const rows = this.spec.rows.labels.length;
    const columns = this.spec.columns.labels.length;
    if (rows === 0 || columns === 0) return;
    const start = this.spec.selected ?? { row: 0, column: 0 };
    const at = this.cell ?? { row: start.row, column: start.column ?? 0 };
    const step = event.ctrlKey || event.metaKey ? 10 : 1;
    const moves: Record<string, Cell> = {
      ArrowLeft: { ...at, column: at.column - step },
      ArrowRight: { ...at, column: at.column + step },
      ArrowUp: { ...at, row: at.row - step },
      ArrowDown: { ...at, row: at.row + step },
      Home: { ...at, column: 0 },
      End: { ...at, column: columns - 1 },
      PageUp: { ...at, row: 0 },
      PageDown: { ...at, row: rows - 1 },
    };
    const target = this.cell || event.key === "Enter" ? moves[event.key] : moves[event.key] && at;
    if (target) {
      event.preventDefault();
      this.moveTo({
        row: Math.max(0, Math.min(rows - 1, target.row)),
        column: Math.max(0, Math.min(columns - 1, target.column)),
      });
      if (this.cell) this.announce(describeCell(this.spec, this.cell.row, this.cell.column).replaceAll("\n", ", "));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.selectCell();
    } else if (event.key === "Escape") this.moveTo(null);
  }

  private selectCell(): void {
    if (this.cell) this.spec.onSelect?.(this.cell.row, this.cell.column);
  }

  private moveTo(cell: Cell | null): void {
    if (cell?.row === this.cell?.row && cell?.column === this.cell?.column) return;
    this.cell = cell;
    this.draw();
  }

  private draw(): void {
    const pen = this.overlay.getContext("2d");
    if (!pen || this.size.width === 0) return;
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, this.size.width, this.size.height);
    const { selected } = this.spec;
    this.frame.dataset["selected"] = selected ? `${selected.row},${selected.column ?? ""}` : "";
    if (selected) this.outline(pen, this.boxOf(selected.row, selected.column), this.theme.warning, 2.5);
    this.showTooltip();
    if (!this.cell) return;
    const box = this.boxOf(this.cell.row, this.cell.column);
    const { left, top, width, height } = this.area;
    pen.fillStyle = this.theme.foreground;
    pen.globalAlpha = 0.35;
    pen.fillRect(left, box.top + box.height / 2 - 0.5, width, 1);
    pen.fillRect(box.left + box.width / 2 - 0.5, top, 1, height);
    pen.globalAlpha = 1;
    this.outline(pen, box, this.theme.foreground, 1.5);
  }

  /** Dark under light, so the outline stands out on every colour. */
  private outline(pen: CanvasRenderingContext2D, box: Area, colour: string, width: number): void {
    pen.strokeStyle = this.theme.background;
    pen.lineWidth = width + 2;
    pen.strokeRect(box.left, box.top, box.width, box.height);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.strokeRect(box.left, box.top, box.width, box.height);
  }

  /** A column of null means the whole row. */
  private boxOf(row: number, column: number | null): Area {
    const { left, top, width, height } = this.area;
    const h = height / this.spec.rows.labels.length;
    const w = width / this.spec.columns.labels.length;
    if (column === null) return { left, top: top + row * h, width, height: h };
    return { left: left + column * w, top: top + row * h, width: w, height: h };
  }

  private showTooltip(): void {
    this.tooltip.hidden = this.cell === null;
    if (!this.cell) return;
    this.tooltip.textContent = describeCell(this.spec, this.cell.row, this.cell.column);
    const box = this.boxOf(this.cell.row, this.cell.column);
    const x = box.left + box.width + 8;
    const toLeft = x + 240 > this.size.width;
    this.tooltip.style.left = toLeft ? "" : `${x}px`;
    this.tooltip.style.right = toLeft ? `${this.size.width - box.left + 8}px` : "";
    const above = box.top + 70 > this.size.height;
    this.tooltip.style.top = above ? "" : `${box.top + box.height + 4}px`;
    this.tooltip.style.bottom = above ? `${this.size.height - box.top + 4}px` : "";
  }
}
