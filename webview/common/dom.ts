export type Child = Node | string | null | false;
type Attributes = Record<string, string | number | boolean | null>;

/**
 * Builds an element. Strings become text nodes, never markup; `true` sets an empty attribute, `false` and null none.
 * @throws Error for `style` and `on...` attributes, which the content security policy refuses.
 */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  setAttributes(made, attributes);
  append(made, children);
  return made;
}

/** The same for a component of the UI toolkit. */
export function customElement(tag: `vscode-${string}`, attributes: Attributes = {}, ...children: Child[]): HTMLElement {
  const made = document.createElement(tag);
  setAttributes(made, attributes);
  append(made, children);
  return made;
}

let ids = 0;
/** An id that no other element of this page has. */
export function uniqueId(prefix: string): string {
  return `${prefix}-${++ids}`;
}

function setAttributes(target: HTMLElement, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style" || name.startsWith("on")) throw new Error(`attribute ${name} is not allowed by the policy`);
    if (value === null || value === false) continue;
    target.setAttribute(name, value === true ? "" : String(value));
  }
}

function append(target: HTMLElement, children: Child[]): void {
  target.append(...children.filter((child): child is Node | string => child !== null && child !== false));
}
