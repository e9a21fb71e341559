/**
 * The only importer of @vscode/webview-ui-toolkit, which is deprecated: replacing it means rewriting this file.
 * Never add its tag or badge here: their templates carry style attributes, which the content security policy refuses.
 */
import {
  provideVSCodeDesignSystem,
  vsCodeButton,
  vsCodeCheckbox,
  vsCodeDropdown,
  vsCodeOption,
  vsCodeProgressRing,
  vsCodeTextField,
} from "@vscode/webview-ui-toolkit";
import { customElement, element } from "./dom";

/** What we use of the components beyond HTMLElement. */
type Valued = HTMLElement & { value: string; disabled: boolean };
type Checkable = HTMLElement & { checked: boolean; disabled: boolean };

/** Defines the components; call once before any is made. */
export function registerToolkit(): void {
  provideVSCodeDesignSystem().register(
    vsCodeButton(),
    vsCodeCheckbox(),
    vsCodeDropdown(),
    vsCodeOption(),
    vsCodeProgressRing(),
    vsCodeTextField(),
  );
}

export function button(
  label: string,
  pressed: () => void,
  options: { primary?: boolean; ariaLabel?: string } = {},
): HTMLElement {
  const made = customElement(
    "vscode-button",
    { appearance: options.primary === true ? "primary" : "secondary", "aria-label": options.ariaLabel ?? null },
    label,
  );
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
  private readonly dropdown: Valued;
  private choices: readonly DropdownChoice<T>[] = [];

  constructor(label: string, changed: (value: T) => void) {
    this.dropdown = customElement("vscode-dropdown", { "aria-label": label }) as Valued;
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
    // The toolkit's values are text and may come from files: positions stand for them.
    this.dropdown.replaceChildren(
      ...choices.map(({ label }, i) => customElement("vscode-option", { value: i }, label)),
    );
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
  private readonly checkbox: Checkable;

  constructor(label: string, checked: boolean, changed: (checked: boolean) => void) {
    this.checkbox = customElement("vscode-checkbox", {}, label) as Checkable;
    this.checkbox.checked = checked;
    this.element = element("div", { class: "control" }, this.checkbox);
    this.checkbox.addEventListener("change", () => {
      changed(this.checkbox.checked);
    });
  }

  set disabled(value: boolean) {
    this.checkbox.disabled = value;
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
  const field = customElement("vscode-text-field", { placeholder, "aria-label": label }) as Valued;
  field.value = value;
  field.addEventListener("input", () => {
    changed(field.value);
  });
  return field;
}

export function progressRing(label: string): HTMLElement {
  return customElement("vscode-progress-ring", { "aria-label": label });
}
