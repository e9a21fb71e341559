import "@vscode-elements/elements/dist/vscode-button/index.js";
import "@vscode-elements/elements/dist/vscode-checkbox/index.js";
import "@vscode-elements/elements/dist/vscode-option/index.js";
import "@vscode-elements/elements/dist/vscode-progress-ring/index.js";
import "@vscode-elements/elements/dist/vscode-single-select/index.js";
import "@vscode-elements/elements/dist/vscode-textfield/index.js";
import { customElement } from "../dom";
import type { Checkable, Components, Valued } from "./components";

/** The components of @vscode-elements/elements, in the place of toolkit.ts with `node esbuild.mjs --components elements`. */
const components: Components = {
  // Importing them defines them.
  register: () => undefined,
  button: (label, { primary, ariaLabel }) =>
    customElement("vscode-button", { secondary: !primary, "aria-label": ariaLabel }, label),
  dropdown: (label) => customElement("vscode-single-select", { label }) as Valued,
  option: (value, label) => customElement("vscode-option", { value }, label),
  checkbox: (label) => customElement("vscode-checkbox", {}, label) as Checkable,
  textField: (label, placeholder) => customElement("vscode-textfield", { placeholder, label }) as Valued,
  // It calls itself an alert, which screen readers would speak at once.
  progressRing: (label) =>
    customElement("vscode-progress-ring", { role: "progressbar", "aria-live": "off", "aria-label": label }),
};

export default components;
