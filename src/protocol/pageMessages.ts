/**
 * The contract between the extension host and the webview pages: every message in both directions, with its schema.
 * Both sides check what they receive with `parseFromPage` or `parseToPage`, log what does not fit and ignore it.
 *
 * Life of a page: it posts `ready`; the host answers `hydrate` (full state, or data null with the reason) or `error`;
 * then come `update`s, `select`s and `settings`. A page that was hidden or reloaded starts again with `ready`, and so
 * does the Retry button: the host must answer every `ready`. Hidden pages receive nothing, so the host keeps the state.
 */
import * as z from "zod/mini";
import {
  expertPanelData,
  metricsLineOfPage,
  planEdit,
  similarityMetric,
  similarityPanelData,
  textPanelData,
} from "./panelSchemas";
import { tensorStatistics } from "./checkpointSchemas";

import {
  playgroundChange,
  playgroundQuestion,
  playgroundScores,
  playgroundSource,
  playgroundUpdate,
} from "./playground";
import { overviewData, pageDataSchemas, pageNames, type PageName } from "./pageData";
import { maxSideBySide } from "./scoring";

/** Values of the setting for the colour scale of non-negative quantities; signed ones always diverge around 0. */
export const colourScales = ["viridis", "cividis", "greys"] as const;
export type ColourScale = (typeof colourScales)[number];

/** Most runs that a page puts beside the one it shows. */
export const maxCompared = 7;

/** What a page shows the data of. A page keeps it in its state, so the host can restore the panel after a reload. */
export const pageSource = z.discriminatedUnion("kind", [
  /** `compareWith`: other runs whose data of the same kind is shown beside it. */
  z.object({
    kind: z.literal("run"),
    runDirectory: z.string(),
    compareWith: z.optional(z.array(z.string()).check(z.maxLength(maxCompared))),
  }),
  /** `only`: of the runs below the folder, these. */
  z.object({ kind: z.literal("runs"), runsFolder: z.string(), only: z.optional(z.array(z.string())) }),
  z.object({ kind: z.literal("file"), uri: z.string() }),
  z.object({ kind: z.literal("workspace") }),
  /** Checkpoints side by side. */
  z.object({
    kind: z.literal("checkpoints"),
    checkpoints: z.array(playgroundSource).check(z.maxLength(maxSideBySide)),
  }),
]);
export type PageSource = z.infer<typeof pageSource>;

/** What a page hands to setState: `deserializeWebviewPanel` receives exactly this. Check it: it may be of another version. */
export const pageState = z.object({
  version: z.literal(1),
  page: z.enum(pageNames),
  source: z.nullable(pageSource),
  /** The page's own choices (layer, metric, domain, table shown ...), opaque to the host. */
  view: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
});
export type PageState = z.infer<typeof pageState>;

/** Commands that a page may ask for; the host maps each to one of its commands and refuses everything else. */
export const pageCommands = [
  "calibrateRouter",
  "compressExperts",
  "profileRouting",
  "evaluateCheckpoint",
  "runRecipe",
  "resumeRun",
  "cancelRun",
  "openReport",
  "openRunFolder",
  "openSampleCheckpoint",
  "showEngineLog",
  "openRouting",
  "openDivergence",
  "openSimilarity",
  "openCalibration",
  "openTradeOff",
  "openText",
  "openWorkers",
  "openPlayground",
  "openDistillation",
] as const;
export type PageCommand = (typeof pageCommands)[number];

/** What the plan's page can ask the host to do with the file it shows. */
export const planActions = ["apply", "editCopy", "chooseCheckpoint", "compare", "stopComparing", "openText"] as const;
export type PlanAction = (typeof planActions)[number];

/** What a page can ask the host: parameters and result by method. Each request gets exactly one `response`. */
export const pageRequests = {
  /** Another layer or metric of the same run; null when the run holds no such matrix. */
  similarity: {
    /** `runDirectory`: of the runs that are compared with the page's own, the one that is meant. */
    params: z.object({ layer: z.int(), metric: similarityMetric, runDirectory: z.optional(z.string()) }),
    result: z.nullable(similarityPanelData),
  },
  /** One expert of the page's run; null where its profile knows none such. */
  expert: { params: z.object({ layer: z.int(), expert: z.int() }), result: z.nullable(expertPanelData) },
  /** Another layer of the text. */
  text: { params: z.object({ layer: z.int() }), result: z.nullable(textPanelData) },
  /** `tensor` is a name of the hydrated table; the host refuses others. */
  tensorStatistics: { params: z.object({ tensor: z.string() }), result: tensorStatistics },
  /** Edits the plan's document, which VS Code can undo; `said` says what happened. A refusal carries the reason. */
  planEdit: { params: z.object({ edit: planEdit }), result: z.object({ said: z.string() }) },
  /** Asks the page's checkpoints, one after another; the answers come as updates. Refused while it works. */
  playgroundStart: { params: playgroundQuestion, result: z.null() },
  /** Ends what it works on; what is there stays. */
  playgroundCancel: { params: z.object({}), result: z.null() },
  /** The scores in another layer. */
  playgroundLayer: { params: z.object({ layer: z.int() }), result: z.nullable(playgroundScores) },
  /** The host asks which checkpoint; a hydrate follows. */
  playgroundChange: { params: playgroundChange, result: z.null() },
  copy: { params: z.object({ text: z.string() }), result: z.null() },
  planAction: { params: z.object({ action: z.enum(planActions) }), result: z.null() },
  /** The host asks where to save, proposing the sanitised `fileName`. `saved` is false when the user cancels. */
  save: {
    params: z.object({
      fileName: z.string().check(z.maxLength(200)),
      mime: z.enum(["image/png", "text/csv", "application/json", "text/markdown"]),
      encoding: z.enum(["utf8", "base64"]),
      content: z.string(),
    }),
    result: z.object({ saved: z.boolean() }),
  },
  /** Shows another run in the same page, and others beside it; a hydrate follows. The host must know them all. */
  showRuns: {
    params: z.object({
      runDirectory: z.string(),
      compareWith: z.array(z.string()).check(z.maxLength(maxCompared)),
    }),
    result: z.null(),
  },
  /** Opens a known file of the shown run in an editor. A page never names a path. */
  openFile: {
    params: z.object({ file: z.enum(["run", "plan", "metrics", "evaluation", "log"]) }),
    result: z.null(),
  },
  /** `runDirectory` must be that of a run the host knows; null means the one the page shows. */
  command: {
    params: z.object({ command: z.enum(pageCommands), runDirectory: z.nullable(z.string()) }),
    result: z.null(),
  },
} as const;
export type PageMethod = keyof typeof pageRequests;
export type PageParams<M extends PageMethod> = z.infer<(typeof pageRequests)[M]["params"]>;
export type PageResult<M extends PageMethod> = z.infer<(typeof pageRequests)[M]["result"]>;
/** Implement this on the host side: forgetting a method does not compile. */
export type PageRequestHandlers = { [M in PageMethod]: (params: PageParams<M>) => Promise<PageResult<M>> };

const request = <M extends PageMethod>(method: M) =>
  z.object({
    type: z.literal("request"),
    id: z.int(),
    method: z.literal(method),
    params: pageRequests[method].params,
  });

/** A layer and expert the user points at, shared by all panels. Expert ids are on the teacher's axis; null: whole layer. */
const selection = { layer: z.int(), expert: z.nullable(z.int()) };
export type Selection = { layer: number; expert: number | null };

const fromPage = z.discriminatedUnion("type", [
  z.object({ type: z.literal("ready"), page: z.enum(pageNames), state: z.nullable(pageState) }),
  z.discriminatedUnion("method", [
    request("similarity"),
    request("tensorStatistics"),
    request("expert"),
    request("text"),
    request("planEdit"),
    request("planAction"),
    request("playgroundStart"),
    request("playgroundCancel"),
    request("playgroundLayer"),
    request("playgroundChange"),
    request("copy"),
    request("save"),
    request("showRuns"),
    request("openFile"),
    request("command"),
  ]),
  /** The host passes it on to the other pages of the same run, not back. */
  z.object({ type: z.literal("select"), ...selection }),
  z.object({ type: z.literal("cspViolation"), directive: z.string(), blocked: z.string(), source: z.string() }),
  /** Something the page ignored or failed at, for the log. */
  z.object({ type: z.literal("log"), level: z.enum(["warning", "error"]), message: z.string() }),
]);
/** Page -> host. */
export type FromPage = z.infer<typeof fromPage>;

export const pageContext = z.object({
  /** Heading of the page: the run's or file's name, untrusted text. */
  title: z.string(),
  source: pageSource,
  /** A run is writing this data now: the page says "live". */
  live: z.boolean(),
  colourScale: z.enum(colourScales),
  /** Pages of one run: the runs that can be shown in its place or beside it, newest first; names are untrusted text. */
  runs: z.optional(z.array(z.object({ directory: z.string(), name: z.string() }))),
});
export type PageContext = z.infer<typeof pageContext>;

/** Why there is nothing to show, in the user's words, and the command that would change it. */
const emptyReason = z.object({ message: z.string(), command: z.nullable(z.enum(pageCommands)) });
export type EmptyReason = z.infer<typeof emptyReason>;

const hydrate = <P extends PageName>(page: P) =>
  z.object({
    type: z.literal("hydrate"),
    page: z.literal(page),
    context: pageContext,
    data: z.nullable(pageDataSchemas[page]),
    /** Given when data is null; without it the page says that the run holds no such data yet. */
    empty: z.nullable(emptyReason),
    /** The runs that are compared with this one, in the order of the source's `compareWith`; null: no such data yet. */
    others: z.optional(
      z.array(z.object({ directory: z.string(), name: z.string(), data: z.nullable(pageDataSchemas[page]) })),
    ),
  });

const toPage = z.discriminatedUnion("type", [
  z.discriminatedUnion("page", [
    hydrate("routing"),
    hydrate("divergence"),
    hydrate("similarity"),
    hydrate("calibration"),
    hydrate("tradeOff"),
    hydrate("overview"),
    hydrate("tensors"),
    hydrate("plan"),
    hydrate("text"),
    hydrate("workers"),
    hydrate("playground"),
    hydrate("distillation"),
  ]),
  z.discriminatedUnion("page", [
    /** New lines of metrics.jsonl, in order, each sent once after the hydrate that did not hold them. */
    z.object({ type: z.literal("update"), page: z.literal("calibration"), lines: z.array(metricsLineOfPage) }),
    /** The Overview is small: an update replaces all of it. At most a few a second. */
    z.object({ type: z.literal("update"), page: z.literal("overview"), data: overviewData }),
    z.object({ type: z.literal("update"), page: z.literal("playground"), change: playgroundUpdate }),
  ]),
  z.object({ type: z.literal("select"), ...selection }),
  /** Settings that a page obeys changed. Dark, light and high contrast need no message: pages watch the body. */
  z.object({ type: z.literal("settings"), colourScale: z.enum(colourScales) }),
  /** The page as a whole cannot be shown: `code` is one of errorCodes. The page offers Retry (`ready` again). */
  z.object({ type: z.literal("error"), message: z.string(), code: z.string() }),
  z.discriminatedUnion("ok", [
    z.object({ type: z.literal("response"), id: z.int(), ok: z.literal(true), result: z.unknown() }),
    z.object({
      type: z.literal("response"),
      id: z.int(),
      ok: z.literal(false),
      error: z.object({ code: z.string(), message: z.string() }),
    }),
  ]),
]);
/** Host -> page. */
export type ToPage = z.infer<typeof toPage>;
export type Hydrate<P extends PageName> = Extract<ToPage, { type: "hydrate"; page: P }>;

export type Parsed<T> = { ok: true; message: T } | { ok: false; reason: string };

/** Host side: checks what a webview posted. */
export function parseFromPage(value: unknown): Parsed<FromPage> {
  return parsed(fromPage.safeParse(value));
}

/** Page side: checks what the host posted. */
export function parseToPage(value: unknown): Parsed<ToPage> {
  return parsed(toPage.safeParse(value));
}

/** The state of a panel to be restored, or null when it is missing or of another version. */
export function parsePageState(value: unknown): PageState | null {
  const result = pageState.safeParse(value);
  return result.success ? result.data : null;
}

function parsed<T>(result: z.core.util.SafeParseResult<T>): Parsed<T> {
  if (result.success) return { ok: true, message: result.data };
  const first = result.error.issues[0];
  return { ok: false, reason: `${first?.path.join(".") ?? ""}: ${first?.message ?? "does not fit"}` };
}
