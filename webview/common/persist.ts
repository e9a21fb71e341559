import { parsePageState, type PageSource, type PageState } from "../../src/protocol/pageMessages";
import type { PageName } from "../../src/protocol/pageData";
import { vscode } from "./messaging";

/** The choices of a page (layer, metric, table shown ...), kept by VS Code over hiding and reloading the window. */
export class PersistedView {
  private state: PageState;

  constructor(private readonly page: PageName) {
    const saved = parsePageState(vscode.getState());
    this.state = saved?.page === page ? saved : { version: 1, page, source: null, view: {} };
  }

  /** What `ready` tells the host. */
  get saved(): PageState {
    return this.state;
  }

  setSource(source: PageSource): void {
    this.save({ ...this.state, source });
  }

  /** The saved choice if it is one of `allowed`, else the first of them. */
  choice<T extends string | number>(key: string, allowed: readonly T[]): T | undefined {
    const saved = this.state.view[key];
    return allowed.find((value) => value === saved) ?? allowed[0];
  }

  flag(key: string): boolean {
    return this.state.view[key] === true;
  }

  text(key: string): string {
    const saved = this.state.view[key];
    return typeof saved === "string" ? saved : "";
  }

  set(key: string, value: string | number | boolean | null): void {
    this.save({ ...this.state, page: this.page, view: { ...this.state.view, [key]: value } });
  }

  private save(state: PageState): void {
    this.state = state;
    vscode.setState(state);
  }
}
