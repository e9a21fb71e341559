import { element } from "./dom";

/** A row of buttons of which one is pressed. */
export class Segments<T extends string> {
  readonly element: HTMLElement;
  private readonly buttons: Map<T, HTMLButtonElement>;

  constructor(label: string, choices: readonly { value: T; label: string }[], chosen: (value: T) => void) {
    this.buttons = new Map(
      choices.map(({ value, label: text }) => {
        const button = element("button", { type: "button" }, text);
        button.addEventListener("click", () => {
          chosen(value);
        });
        return [value, button];
      }),
    );
    const group = element("div", { class: "segments", role: "group", "aria-label": label }, ...this.buttons.values());
    this.element = element("div", { class: "control" }, element("span", { "aria-hidden": "true" }, label), group);
  }

  /** Presses `value`; choices outside `available` cannot be pressed. */
  show(value: T, available: readonly T[]): void {
    for (const [choice, button] of this.buttons) {
      button.setAttribute("aria-pressed", String(choice === value));
      button.disabled = !available.includes(choice);
    }
  }
}
