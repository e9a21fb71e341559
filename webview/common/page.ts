import type {
  ColourScale,
  Hydrate,
  PageCommand,
  PageContext,
  Selection,
  ToPage,
} from "../../src/protocol/pageMessages";
import type { PageData, PageName } from "../../src/protocol/pageData";
import { element } from "./dom";
import { emptyState, errorState } from "./emptyState";
import { HostError, listen, log, ready, request, select } from "./messaging";
import { PersistedView } from "./persist";
import { RunBar } from "./runBar";
import { addStyle } from "./style";
import { plainLabel } from "./text";
import { onThemeChange, readTheme, type Theme } from "./theme";
import { progressRing, registerToolkit } from "./toolkit";
import { untrusted } from "./untrusted";
import { t } from "./translate";

/** What the parts of a page need from it. */
export interface PageServices {
  readonly theme: Theme;
  /** What the page shows, the run's or file's name: untrusted text. */
  readonly title: string;
  readonly colourScale: ColourScale;
  readonly persisted: PersistedView;
  /** Reads the text out, politely, and nothing else. */
  readonly announce: (text: string) => void;
  /** Shows a short message below the heading, e.g. that an export failed; null removes it. */
  readonly notify: (text: string | null) => void;
  readonly run: (command: PageCommand, runDirectory?: string) => void;
  readonly select: (selection: Selection) => void;
  /** Calls back when the editor's theme changed; figures draw themselves again. */
  readonly onTheme: (callback: () => void) => void;
  /** Calls back when a setting changed, e.g. the colour scale; what depends on it must be made again. */
  readonly onSettings: (callback: () => void) => void;
}

/** A run that is compared with the one that a page shows. */
export interface OtherRun<P extends PageName> {
  directory: string;
  /** Untrusted text, made plain. */
  name: string;
  data: PageData<P>;
}

/** The content of a page; made once, at the first data. */
export interface View<P extends PageName> {
  readonly element: HTMLElement;
  /** `others`: the same of the runs that are compared with this one. */
  show(data: PageData<P>, context: PageContext, others: readonly OtherRun<P>[]): void;
  update?(message: Extract<ToPage, { type: "update" }>): void;
  select?(selection: Selection): void;
}

/** Starts a page: shell, states (loading, ready, empty, error) and messages. The page itself only makes its view. */
export function startPage<P extends PageName>(
  page: P,
  heading: string,
  makeView: (services: PageServices) => View<P>,
): void {
  addStyle();
  registerToolkit();
  const persisted = new PersistedView(page);
  const title = element("span", { class: "muted" });
  const live = element("span", { class: "live", hidden: true }, "live");
  const announcer = element("div", { class: "visually-hidden", "aria-live": "polite", "data-announcer": true });
  const notification = element("div", { class: "notice warning", role: "status", hidden: true });
  const state = element("div", { class: "state" });
  const content = element("div", { class: "content", hidden: true });
  const header = element("header", { class: "page-header" }, element("h1", {}, heading), title, live);
  const runBar = new RunBar((message) => {
    services.notify(message);
  });
  document.body.append(element("main", {}, header, runBar.element, notification, state, content), announcer);

  let theme = readTheme();
  let colourScale: ColourScale = "viridis";
  let shownTitle = "";
  let view: View<P> | undefined;
  const onTheme: (() => void)[] = [];
  const onSettings: (() => void)[] = [];

  const services: PageServices = {
    get theme() {
      return theme;
    },
    get title() {
      return shownTitle;
    },
    get colourScale() {
      return colourScale;
    },
    persisted,
    announce: (text) => {
      announcer.textContent = text;
    },
    notify: (text) => {
      notification.hidden = text === null;
      notification.replaceChildren(...(text === null ? [] : [untrusted(text, 400)]));
    },
    run: (command, runDirectory) => {
      request("command", { command, runDirectory: runDirectory ?? null }).catch((error: unknown) => {
        services.notify(messageOf(error));
      });
    },
    select,
    onTheme: (callback) => onTheme.push(callback),
    onSettings: (callback) => onSettings.push(callback),
  };

  const setState = (name: "loading" | "ready" | "empty" | "error", ...children: HTMLElement[]): void => {
    state.replaceChildren(...children);
    content.hidden = name !== "ready";
    document.body.dataset["state"] = name;
  };
  const retry = (): void => {
    setState("loading", progressRing(t("Loading")));
    ready(page, persisted.saved);
  };

  const hydrate = ({ context, data, empty, others = [] }: Hydrate<P>): void => {
    colourScale = context.colourScale;
    shownTitle = context.title;
    persisted.setSource(context.source);
    title.replaceChildren(untrusted(context.title, 100));
    live.hidden = !context.live;
    runBar.show(context);
    if (data === null) {
      setState(
        "empty",
        emptyState(empty ?? { message: t("This run holds no such data yet."), command: null }, services.run),
      );
      return;
    }
    setState("ready");
    if (!view) {
      view = makeView(services);
      content.append(view.element);
    }
    view.show(data as PageData<P>, context, othersWithData(others as ReceivedOther<P>[]));
    const lacking = others.filter((other) => other.data === null).map(({ name }) => plainLabel(name, 60));
    if (others.length > 0) services.notify(lacking.length > 0 ? t("No such data yet: {0}", lacking.join(", ")) : null);
  };

  listen(
    (message, receivedAt) => {
      try {
        switch (message.type) {
          case "hydrate":
            if (message.page === page)
              measured(`hydrate:${page}`, () => {
                hydrate(message as Hydrate<P>);
                recordPaint(page, receivedAt);
              });
            break;
          case "update":
            if (message.page === page) view?.update?.(message);
            break;
          case "select":
            view?.select?.(message);
            break;
          case "settings":
            colourScale = message.colourScale;
            for (const callback of onSettings) callback();
            break;
          case "error":
            setState("error", errorState(message.code, message.message, retry));
            break;
        }
      } catch (error) {
        log(
          "error",
          `${message.type} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
        );
        setState("error", errorState("internal", messageOf(error), retry));
      }
    },
    (type, reason) => {
      // Without its first data a page would wait for ever.
      if (type === "hydrate" && document.body.dataset["state"] === "loading")
        setState(
          "error",
          errorState("internal", t("the data for this page does not fit its schema: {0}", reason), retry),
        );
    },
  );
  onThemeChange(() => {
    theme = readTheme();
    for (const callback of onTheme) callback();
  });
  retry();
}

type ReceivedOther<P extends PageName> = { directory: string; name: string; data: PageData<P> | null };

function othersWithData<P extends PageName>(others: readonly ReceivedOther<P>[]): OtherRun<P>[] {
  return others.flatMap(({ directory, name, data }) =>
    data === null ? [] : [{ directory, name: plainLabel(name, 60), data }],
  );
}

/** Records, as a performance measure, the time from the message until the frame that shows it was presented. */
function recordPaint(page: PageName, start: number): void {
  requestAnimationFrame(() =>
    setTimeout(() => {
      performance.measure(`paint:${page}`, { start });
    }),
  );
}

/** What to tell the user about something thrown. */
export function messageOf(error: unknown): string {
  return error instanceof HostError || error instanceof Error ? error.message : String(error);
}

/** Runs and records a performance measure, which developer tools and the tests read. */
export function measured(name: string, work: () => void): void {
  const start = performance.now();
  work();
  performance.measure(name, { start });
}
