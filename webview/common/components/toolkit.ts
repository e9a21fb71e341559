import {
  provideVSCodeDesignSystem,
  vsCodeButton,
  vsCodeCheckbox,
  vsCodeDropdown,
  vsCodeOption,
  vsCodeProgressRing,
  vsCodeTextField,
} from "@vscode/webview-ui-toolkit";
import { customElement } from "../dom";
import type { Checkable, Components, Valued } from "./components";

/**
 * The components of @vscode/webview-ui-toolkit, which is no longer kept: elements.ts has the same of a library that is.
 * Never add its tag or badge here: their templates carry style attributes, which the content security policy refuses.
 */
const components: Components = {
  register: () =>
    provideVSCodeDesignSystem().register(
      vsCodeButton(),
      vsCodeCheckbox(),
      vsCodeDropdown(),
      vsCodeOption(),
      vsCodeProgressRing(),
      vsCodeTextField(),
    ),
  button: (label, { primary, ariaLabel }) =>
    customElement("vscode-button", { appearance: primary ? "primary" : "secondary", "aria-label": ariaLabel }, label),
  dropdown: (label) => customElement("vscode-dropdown", { "aria-label": label }) as Valued,
  option: (value, label) => customElement("vscode-option", { value }, label),
  checkbox: (label) => customElement("vscode-checkbox", {}, label) as Checkable,
  textField: (label, placeholder) => customElement("vscode-text-field", { placeholder, "aria-label": label }) as Valued,
  progressRing: (label) => customElement("vscode-progress-ring", { "aria-label": label }),
};

export default components;
