import { element } from "./dom";

export interface ShownToken {
  text: string;
  background: string;
  colour: string;
  /** Routed to the selected expert. */
  marked: boolean;
  /** One line for tooltip and screen reader. */
  description: string;
}

/** Running text of coloured tokens. Arrow keys move from token to token, Enter chooses. */
export class TokenText {
  readonly element: HTMLElement;
  private shown: readonly ShownToken[] = [];
  private spans: HTMLElement[] = [];
  private cursor = 0;

  constructor(
    label: string,
    hint: string,
    private readonly announce: (text: string) => void,
    private readonly chosen: (index: number) => void,
  ) {
    this.element = element("div", {
      class: "token-text",
      role: "application",
      "aria-roledescription": "text",
      "aria-label": `${label}. ${hint}`,
      tabindex: 0,
    });
    this.element.addEventListener("click", (event) => {
      const index = this.spans.indexOf(event.target as HTMLElement);
      if (index >= 0) this.choose(index);
    });
    this.element.addEventListener("keydown", (event) => {
      this.onKey(event);
    });
  }

  show(tokens: readonly ShownToken[]): void {
    this.shown = tokens;
    // Colours change often, the text seldom, and then by tokens at its end.
    const differing = this.spans.findIndex((span, i) => span.textContent !== tokens[i]?.text);
    const kept = differing < 0 ? this.spans.length : differing;
    for (const span of this.spans.splice(kept)) span.remove();
    const added = tokens.slice(kept).map(({ text }) => element("span", { class: "token" }, text));
    this.element.append(...added);
    this.spans.push(...added);
    this.cursor = Math.max(0, Math.min(this.cursor, this.spans.length - 1));
    tokens.forEach(({ background, colour, marked, description }, i) => {
      const span = this.spans[i]!;
      span.style.background = background;
      span.style.color = colour;
      span.classList.toggle("marked", marked);
      span.title = description;
    });
  }

  private onKey(event: KeyboardEvent): void {
    const step = event.ctrlKey || event.metaKey ? 10 : 1;
    const moves: Record<string, number> = {
      ArrowRight: this.cursor + step,
      ArrowLeft: this.cursor - step,
      ArrowDown: this.lineNeighbour(1),
      ArrowUp: this.lineNeighbour(-1),
      Home: 0,
      End: this.shown.length - 1,
    };
    const target = moves[event.key];
    if (target !== undefined) {
      event.preventDefault();
      this.moveTo(Math.max(0, Math.min(this.shown.length - 1, target)));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.choose(this.cursor);
    }
  }

  /** The token above or below. */
  private lineNeighbour(direction: 1 | -1): number {
    const from = this.spans[this.cursor];
    if (!from) return 0;
    for (let i = this.cursor + direction; i >= 0 && i < this.spans.length; i += direction) {
      const span = this.spans[i]!;
      const line = (span.offsetTop - from.offsetTop) * direction;
      const isPast = direction > 0 ? span.offsetLeft >= from.offsetLeft : span.offsetLeft <= from.offsetLeft;
      if (line > 4 && (isPast || line > from.offsetHeight * 1.8)) return i;
    }
    return this.cursor;
  }

  private choose(index: number): void {
    this.moveTo(index);
    this.chosen(index);
  }

  private moveTo(index: number): void {
    this.spans[this.cursor]?.classList.remove("current");
    this.cursor = index;
    const span = this.spans[index];
    if (!span) return;
    span.classList.add("current");
    span.scrollIntoView({ block: "nearest" });
    this.announce(this.shown[index]!.description);
  }
}
