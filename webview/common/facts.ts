import { element, type Child } from "./dom";

/** Fills a definition list with names and values. */
export function facts(list: HTMLDListElement, rows: readonly (readonly [string, Child])[]): void {
  list.replaceChildren(...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}
