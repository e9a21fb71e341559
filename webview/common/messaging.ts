import { config, safeParse } from "zod/mini";
import {
  pageRequests,
  parseToPage,
  type FromPage,
  type PageMethod,
  type PageParams,
  type PageResult,
  type PageState,
  type Selection,
  type ToPage,
} from "../../src/protocol/pageMessages";
import type { PageName } from "../../src/protocol/pageData";

// zod would try `new Function`, which the content security policy refuses and reports.
config({ jitless: true });

interface VsCodeApi {
  postMessage(message: FromPage): void;
  getState(): unknown;
  setState(state: PageState): void;
}
declare function acquireVsCodeApi(): VsCodeApi;

/** VS Code hands this out once a page. */
export const vscode = acquireVsCodeApi();

/** A request that the host refused or failed; `code` is one of the error codes of the protocol. */
export class HostError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

type Incoming = Exclude<ToPage, { type: "response" }>;
interface Pending {
  method: PageMethod;
  resolve: (result: never) => void;
  reject: (error: HostError) => void;
}

const pending = new Map<number, Pending>();
let lastId = 0;

/** Listens to the host: everything checked, responses matched to their requests, the rest handed to `receive`; what does not fit is logged. */
export function listen(
  receive: (message: Incoming, receivedAt: number) => void,
  refused: (type: unknown, reason: string) => void,
): void {
  window.addEventListener("message", (event: MessageEvent<unknown>) => {
    const receivedAt = performance.now();
    const parsed = parseToPage(event.data);
    if (!parsed.ok) {
      log("warning", `ignored a message from the host: ${parsed.reason}`);
      refused((event.data as { type?: unknown } | null)?.type, parsed.reason);
    } else if (parsed.message.type === "response") settle(parsed.message);
    else receive(parsed.message, receivedAt);
  });
  document.addEventListener("securitypolicyviolation", (event) => {
    post({
      type: "cspViolation",
      directive: event.effectiveDirective,
      blocked: event.blockedURI,
      source: `${event.sourceFile}:${event.lineNumber}`,
    });
  });
}

/** Tells the host that the page can receive; it answers with `hydrate` or `error`. */
export function ready(page: PageName, state: PageState | null): void {
  post({ type: "ready", page, state });
}

/** Asks the host. @throws HostError when it refuses, fails, or answers what does not fit. */
export function request<M extends PageMethod>(method: M, params: PageParams<M>): Promise<PageResult<M>> {
  const id = ++lastId;
  return new Promise<PageResult<M>>((resolve, reject) => {
    pending.set(id, { method, resolve, reject });
    post({ type: "request", id, method, params });
  });
}

/** Shares the layer and expert the user points at with the other panels. */
export function select({ layer, expert }: Selection): void {
  post({ type: "select", layer, expert });
}

export function log(level: "warning" | "error", message: string): void {
  post({ type: "log", level, message: message.slice(0, 2000) });
}

function post(message: FromPage): void {
  vscode.postMessage(message);
}

function settle(response: Extract<ToPage, { type: "response" }>): void {
  const waiting = pending.get(response.id);
  if (!waiting) {
    log("warning", `ignored a response to request ${response.id}, which nobody waits for`);
    return;
  }
  pending.delete(response.id);
  if (!response.ok) {
    waiting.reject(new HostError(response.error.code, response.error.message));
    return;
  }
  const result = safeParse(pageRequests[waiting.method].result, response.result);
  if (result.success) waiting.resolve(result.data as never);
  else waiting.reject(new HostError("internal", `the answer to ${waiting.method} does not fit its schema`));
}
