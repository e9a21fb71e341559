import components from "./components/toolkit";
import { element } from "./dom";

/** Defines the components; call once before any is made. */
export function registerToolkit(): void {
  components.register();
}

export function button(
  label: string,
  pressed: () => void,
  options: { primary?: boolean; ariaLabel?: string } = {},
): HTMLElement {
  const { primary = false, ariaLabel = null } = options;
  const made = components.button(label, { primary, ariaLabel });
  made.addEventListener("click", pressed);
  return made;
}

export interface DropdownChoice<T extends string | number> {
  value: T;
  label: string;
}

/** A labelled dropdown. `set` replaces its choices; an unknown value selects the first. */
export class Select<T extends string | number> {
  readonly element: HTMLElement;
  private readonly dropdown: ReturnType<typeof components.dropdown>;
  private choices: readonly DropdownChoice<T>[] = [];

  constructor(label: string, changed: (value: T) => void) {
    this.dropdown = components.dropdown(label);
    this.element = element(
      "div",
      { class: "control" },
      element("span", { "aria-hidden": "true" }, label),
      this.dropdown,
    );
    this.dropdown.addEventListener("change", () => {
      const chosen = this.choices[Number(this.dropdown.value)];
      if (chosen) changed(chosen.value);
    });
  }

  set(choices: readonly DropdownChoice<T>[], value: T | undefined): void {
    this.choices = choices;
    // The components' values are text and may come from files: positions stand for them.
    this.dropdown.replaceChildren(...choices.map(({ label }, i) => components.option(i, label)));
    const index = Math.max(
      0,
      choices.findIndex((choice) => choice.value === value),
    );
    // The dropdown takes note of its options in a task of its own.
    void Promise.resolve().then(() => {
      this.dropdown.value = String(index);
    });
  }

  set disabled(value: boolean) {
    this.dropdown.disabled = value;
  }
}

export class Toggle {
  readonly element: HTMLElement;
  private readonly checkbox: ReturnType<typeof components.checkbox>;

  constructor(label: string, checked: boolean, changed: (checked: boolean) => void) {
    this.checkbox = components.checkbox(label);
    this.checkbox.checked = checked;
    this.element = element("div", { class: "control" }, this.checkbox);
    this.checkbox.addEventListener("change", () => {
      changed(this.checkbox.checked);
    });
  }

  set disabled(value: boolean) {
    this.checkbox.disabled = value;
    // One of the component libraries does not say so by itself.
    this.checkbox.setAttribute("aria-disabled", String(value));
  }

  set checked(value: boolean) {
    this.checkbox.checked = value;
  }
}

export function textField(
  label: string,
  placeholder: string,
  value: string,
  changed: (text: string) => void,
): HTMLElement {
  const field = components.textField(label, placeholder);
  field.value = value;
  field.addEventListener("input", () => {
    changed(field.value);
  });
  return field;
}

export function progressRing(label: string): HTMLElement {
  return components.progressRing(label);
}
