import type { Announce } from "./chartjs";
import type { LaneBar, LaneBox, LanesSpec } from "./lanesSpec";

interface CursorParts {
  frame: HTMLElement;
  outline: HTMLElement;
  tooltip: HTMLElement;
  /** What is shown now. */
  spec: () => LanesSpec;
  /** Where a bar, or with null its lane, is drawn. */
  boxOf: (lane: number, bar: LaneBar | null) => LaneBox;
  announce: Announce;
}

/**
 * Pointer and keyboard on lanes: Left and Right move along a lane, Up and Down change it, Page Up and Page Down by ten, Home and
 * End go to a lane's ends, Escape lets go. The bar is outlined, and its text shown and announced.
 */
export class LanesCursor {
  private lane = 0;
  private bar = -1;

  constructor(private readonly parts: CursorParts) {
    const { frame } = parts;
    frame.tabIndex = 0;
    frame.setAttribute("role", "application");
    frame.setAttribute("aria-roledescription", "timeline");
    frame.addEventListener("pointermove", (event) => {
      this.hover(event);
    });
    for (const left of ["pointerleave", "blur"] as const)
      frame.addEventListener(left, () => {
        this.moveTo(this.lane, -1);
      });
    frame.addEventListener("keydown", (event) => {
      this.onKey(event);
    });
  }

  /** The chart was laid out anew, or shows other bars. */
  place(): void {
    const bar = this.parts.spec().bars[this.lane]?.[this.bar];
    this.parts.outline.hidden = this.parts.tooltip.hidden = bar === undefined;
    if (!bar) return;
    const box = this.parts.boxOf(this.lane, bar);
    for (const side of ["left", "top", "width", "height"] as const) this.parts.outline.style[side] = `${box[side]}px`;
    this.parts.tooltip.textContent = this.textOf(bar);
    const { clientWidth, clientHeight } = this.parts.frame;
    const toLeft = box.left > clientWidth / 2;
    this.parts.tooltip.style.left = toLeft ? "" : `${box.left + 8}px`;
    this.parts.tooltip.style.right = toLeft ? `${Math.max(0, clientWidth - box.left - Math.min(box.width, 40))}px` : "";
    const above = box.top > clientHeight / 2;
    this.parts.tooltip.style.top = above ? "" : `${box.top + box.height + 4}px`;
    this.parts.tooltip.style.bottom = above ? `${clientHeight - box.top + 4}px` : "";
  }

  private textOf(bar: LaneBar): string {
    const { lanes, title } = this.parts.spec();
    return `${title} ${lanes[this.lane]!}\n${bar.describe()}`;
  }

  private moveTo(lane: number, bar: number): void {
    if (lane === this.lane && bar === this.bar) return;
    this.lane = lane;
    this.bar = bar;
    this.place();
  }

  private onKey(event: KeyboardEvent): void {
    const { bars, lanes, title } = this.parts.spec();
    if (bars.length === 0) return;
    const step = event.ctrlKey || event.metaKey ? 10 : 1;
    const lane = (by: number) => Math.max(0, Math.min(bars.length - 1, this.lane + by));
    const last = (of: number) => (bars[of]?.length ?? 0) - 1;
    const moves: Record<string, () => [number, number]> = {
      ArrowRight: () => [this.lane, Math.min(last(this.lane), this.bar + step)],
      ArrowLeft: () => [this.lane, Math.min(last(this.lane), Math.max(0, this.bar - step))],
      Home: () => [this.lane, Math.min(0, last(this.lane))],
      End: () => [this.lane, last(this.lane)],
      ArrowDown: () => this.beside(lane(step)),
      ArrowUp: () => this.beside(lane(-step)),
      PageDown: () => this.beside(lane(10)),
      PageUp: () => this.beside(lane(-10)),
      Escape: () => [this.lane, -1],
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    this.moveTo(...move());
    const bar = bars[this.lane]?.[this.bar];
    const where = `${title} ${lanes[this.lane] ?? ""}, ${this.bar + 1} of ${last(this.lane) + 1}`;
    if (bar) this.parts.announce(`${where}: ${bar.describe().replaceAll("\n", ", ")}`);
    else if (event.key !== "Escape") this.parts.announce(`${title} ${lanes[this.lane] ?? ""}: nothing`);
  }

  /** The bar of another lane that is nearest in time to the one at hand. */
  private beside(lane: number): [number, number] {
    const { bars } = this.parts.spec();
    const at = bars[this.lane]?.[this.bar]?.start ?? 0;
    const next = (bars[lane] ?? []).findIndex(({ end }) => end > at);
    return [lane, next < 0 ? (bars[lane]?.length ?? 0) - 1 : next];
  }

  private hover(event: PointerEvent): void {
    const { bars } = this.parts.spec();
    const frame = this.parts.frame.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    const { top, height } = this.parts.boxOf(0, null);
    const lane = Math.floor((y - top) / Math.max(1, this.parts.boxOf(1, null).top - top || height));
    const found = (bars[lane] ?? []).findIndex((bar) => {
      const box = this.parts.boxOf(lane, bar);
      return x >= box.left - 1 && x <= box.left + box.width + 1;
    });
    this.moveTo(found < 0 ? this.lane : lane, found);
  }
}
