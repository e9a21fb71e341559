import * as vscode from "vscode";
import { errorCodeOf } from "../../protocol/errors";
import type { MetricsLine } from "../../protocol/metrics";
import {
  parseFromPage,
  type FromPage,
  type PageRequestHandlers,
  type PageSource,
  type Selection,
  type ToPage,
} from "../../protocol/pageMessages";
import type { PageName } from "../../protocol/pageData";
import { Playground } from "../playground/playground";
import type { Services } from "../services";
import { readSettings } from "../settings";
import { linesBehind } from "./newLines";
import type { OpenPage } from "./pageHub";
import { loadPage, type HydrateMessage } from "./pageLoad";
import { pageRequestHandlers } from "./pageRequests";

/** Milliseconds between two readings of who works on what. */
export const workersEveryMs = 3000;

/** One page inside one webview: hydrates it when it says "ready", then streams; checks everything it posts. */
export class PageSession implements OpenPage, vscode.Disposable {
  private ready = false;
  private loading = false;
  private reloadWanted = false;
  /** Whether the page was last told that there is nothing to show. */
  private empty = false;
  /** Lines that came while the page's data was being read. */
  private waitingLines: MetricsLine[] = [];
  private readonly handlers: PageRequestHandlers;
  private readonly listener: vscode.Disposable;
  private again: NodeJS.Timeout | undefined;
  /** Names in the hydrated tensor table; statistics are asked for these only. */
  private tensorNames = new Set<string>();
  private readonly playground: Playground;

  constructor(
    private readonly webview: vscode.Webview,
    readonly page: PageName,
    private shown: PageSource,
    private readonly services: Services,
    /** Told the name of what the page shows, and what that is, whenever it is read. */
    private readonly named: (name: string, source: PageSource) => void = () => undefined,
    /** The run whose selection an editor of a file follows. */
    private readonly linkedRun: string | null = null,
  ) {
    this.playground = new Playground({
      engine: services.engine,
      settings: () => readSettings(),
      post: (change) => this.post({ type: "update", page: "playground", change }),
    });
    this.handlers = pageRequestHandlers(
      () => this.shown,
      services,
      (name) => this.tensorNames.has(name),
      (source) => this.showOther(source),
      () => this.reload(),
      this.playground,
    );
    this.listener = webview.onDidReceiveMessage((message: unknown) => void this.receive(message));
    services.pages.add(this);
  }

  get source(): PageSource {
    return this.shown;
  }

  get runDirectory(): string | null {
    return this.shown.kind === "run" ? this.shown.runDirectory : this.linkedRun;
  }

  /** Shows another run in the same page, or others beside it. */
  showOther(source: PageSource): void {
    this.shown = source;
    this.waitingLines = [];
    this.reload();
  }

  select(selection: Selection): void {
    this.post({ type: "select", ...selection });
  }

  addMetrics(line: MetricsLine): void {
    if (this.page !== "calibration" || !this.ready) return;
    if (this.loading) this.waitingLines.push(line);
    // A page that has been told that there is nothing yet has nothing to add lines to.
    else if (this.empty) this.reload();
    else this.post({ type: "update", page: "calibration", lines: [line] });
  }

  settingsChanged(): void {
    if (this.ready) this.post({ type: "settings", colourScale: readSettings().colourScale });
  }

  /** Reads the page's data again; many calls while it is being read become one. */
  reload(): void {
    if (!this.ready) return;
    if (this.loading) this.reloadWanted = true;
    else void this.hydrate();
  }

  /** The page's own update, for the Overview. */
  post(message: ToPage): void {
    // A hidden or disposed webview drops messages; it says "ready" again when it comes back.
    void this.webview.postMessage(message);
  }

  isReady(): boolean {
    return this.ready;
  }

  dispose(): void {
    clearTimeout(this.again);
    this.ready = false;
    this.playground.forget();
    this.services.pages.remove(this);
    this.listener.dispose();
  }

  private async receive(value: unknown): Promise<void> {
    const parsed = parseFromPage(value);
    if (!parsed.ok) {
      this.services.log.warn(`${this.page} page: ignored a message that does not fit the contract: ${parsed.reason}`);
      return;
    }
    const { message } = parsed;
    switch (message.type) {
      case "ready":
        this.ready = true;
        return this.hydrate();
      case "select":
        this.services.pages.select(this, { layer: message.layer, expert: message.expert });
        return;
      case "request":
        return this.answer(message);
      case "cspViolation":
        this.services.log.error(
          `${this.page} page: the content policy (${message.directive}) blocked ${message.blocked} at ${message.source}`,
        );
        return;
      case "log":
        this.services.log[message.level === "error" ? "error" : "warn"](`${this.page} page: ${message.message}`);
    }
  }

  private async hydrate(): Promise<void> {
    this.loading = true;
    this.reloadWanted = false;
    try {
      const source = this.shown;
      const message = await loadPage(this.page, source, this.services, this.playground);
      // Another run was chosen while this one was being read: it alone is shown.
      if (source !== this.shown) {
        this.reloadWanted = true;
        return;
      }
      if (message.page === "tensors" && message.data)
        this.tensorNames = new Set(message.data.tensors.map(({ name }) => name));
      this.empty = message.data === null;
      this.named(message.context.title, source);
      if (this.empty && this.waitingLines.length > 0) this.reloadWanted = true;
      this.post(message);
      this.postWaitingLines(message);
      this.readAgainLater(message);
      const selection = this.runDirectory === null ? null : this.services.pages.selectionOf(this.runDirectory);
      if (selection) this.select(selection);
    } catch (error) {
      this.post({
        type: "error",
        code: errorCodeOf(error),
        message: error instanceof Error ? error.message : String(error),
      });
    } finally {
      this.loading = false;
      this.waitingLines = [];
      if (this.reloadWanted) void this.hydrate();
    }
  }

  private postWaitingLines(message: ToPage): void {
    if (message.type !== "hydrate" || message.page !== "calibration") return;
    const lines = linesBehind(message.data ?? { updates: [], heldOut: [] }, this.waitingLines);
    if (lines.length > 0) this.post({ type: "update", page: "calibration", lines });
  }

  /** Tiles come without events of their own: while a run works, its Workers page is read again every few seconds. */
  private readAgainLater({ page, context, data }: HydrateMessage): void {
    clearTimeout(this.again);
    const isGoing = page === "workers" && (context.live || data?.running === true);
    if (isGoing) this.again = setTimeout(() => this.reload(), workersEveryMs);
  }

  private async answer(request: Extract<FromPage, { type: "request" }>): Promise<void> {
    const { id } = request;
    try {
      this.post({ type: "response", id, ok: true, result: await this.dispatch(request) });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.post({ type: "response", id, ok: false, error: { code: errorCodeOf(error), message } });
    }
  }

  /** parseFromPage has checked that the parameters are those of the method. */
  private dispatch(request: Extract<FromPage, { type: "request" }>): Promise<unknown> {
    const handler = this.handlers[request.method] as (params: unknown) => Promise<unknown>;
    return handler(request.params);
  }
}
