import type { PageContext } from "../../src/protocol/pageMessages";
import { element } from "./dom";
import { request } from "./messaging";
import { plainLabel } from "./text";
import { Select, type DropdownChoice } from "./toolkit";
import { t } from "./translate";

/** Characters of a run's name in a dropdown. */
const nameLength = 60;
const none = "";

/** Which run a page shows, and which it puts beside it. Hidden where there is no other run. */
export class RunBar {
  readonly element: HTMLElement;
  private readonly run: Select<string>;
  private readonly other: Select<string>;
  private source: { runDirectory: string; compareWith: readonly string[] } = { runDirectory: "", compareWith: [] };

  constructor(private readonly failed: (message: string) => void) {
    this.run = new Select(t("Run"), (runDirectory) => {
      // A run is not compared with itself: the two change places.
      const compareWith = this.source.compareWith.map((one) => (one === runDirectory ? this.source.runDirectory : one));
      this.ask(runDirectory, compareWith);
    });
    this.other = new Select(t("Compare with"), (directory) => {
      if (directory !== several) this.ask(this.source.runDirectory, directory === none ? [] : [directory]);
    });
    this.element = element(
      "div",
      { class: "toolbar", "data-runs": true, hidden: true },
      this.run.element,
      this.other.element,
    );
  }

  show({ source, runs = [] }: PageContext): void {
    const others = source.kind === "run" ? runs.filter(({ directory }) => directory !== source.runDirectory) : [];
    this.element.hidden = others.length === 0;
    if (source.kind !== "run" || others.length === 0) return;
    const compareWith = source.compareWith ?? [];
    this.source = { runDirectory: source.runDirectory, compareWith };
    const choices = (shown: typeof runs): DropdownChoice<string>[] =>
      shown.map(({ directory, name }) => ({ value: directory, label: plainLabel(name, nameLength) }));
    this.run.set(choices(runs), source.runDirectory);
    const many: DropdownChoice<string>[] =
      compareWith.length > 1 ? [{ value: several, label: `${compareWith.length} runs` }] : [];
    this.other.set(
      [{ value: none, label: t("No other run") }, ...many, ...choices(others)],
      compareWith.length > 1 ? several : (compareWith[0] ?? none),
    );
  }

  private ask(runDirectory: string, compareWith: readonly string[]): void {
    request("showRuns", { runDirectory, compareWith: [...compareWith] }).catch((error: unknown) => {
      this.failed(error instanceof Error ? error.message : String(error));
    });
  }
}

/** Stands for several runs that were chosen elsewhere; no folder is called so. */
const several = "\u0000several";
