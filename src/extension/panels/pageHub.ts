import type { MetricsLine } from "../../protocol/metrics";
import type { Selection } from "../../protocol/pageMessages";

/** What the hub needs of an open page. */
export interface OpenPage {
  /** The run it shows; null for pages of several runs or of none. */
  readonly runDirectory: string | null;
  select(selection: Selection): void;
  addMetrics(line: MetricsLine): void;
  reload(): void;
  settingsChanged(): void;
}

/** The open pages of this window: what happens in one reaches the others that it concerns. */
export class PageHub {
  private readonly pages = new Set<OpenPage>();
  private readonly selections = new Map<string, Selection>();

  add(page: OpenPage): void {
    this.pages.add(page);
  }

  remove(page: OpenPage): void {
    this.pages.delete(page);
  }

  /** A layer or expert was selected in `from`: shown by every other page of the same run, now and when opened later. */
  select(from: OpenPage, selection: Selection): void {
    if (from.runDirectory === null) return;
    this.selections.set(from.runDirectory, selection);
    for (const page of this.pages) {
      if (page !== from && page.runDirectory === from.runDirectory) page.select(selection);
    }
  }

  /** The selection that a page of this run starts with. */
  selectionOf(runDirectory: string): Selection | null {
    return this.selections.get(runDirectory) ?? null;
  }

  metrics(runDirectory: string, line: MetricsLine): void {
    for (const page of this.pages) if (page.runDirectory === runDirectory) page.addMetrics(line);
  }

  /** The files of a run changed: its pages, and those of all runs, read them again. */
  runChanged(runDirectory: string): void {
    for (const page of this.pages) {
      if (page.runDirectory === runDirectory || page.runDirectory === null) page.reload();
    }
  }

  settingsChanged(): void {
    for (const page of this.pages) page.settingsChanged();
  }
}
