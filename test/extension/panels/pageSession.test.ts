import { expect, it, vi } from "vitest";
import { PageSession } from "../../../src/extension/panels/pageSession";
import type { Services } from "../../../src/extension/services";
import type { MetricsLine } from "../../../src/protocol/metrics";
import type { ToPage } from "../../../src/protocol/pageMessages";

vi.mock("vscode", () => ({}));
vi.mock("../../../src/extension/settings", () => ({}));
vi.mock("../../../src/extension/panels/pageRequests", () => ({ pageRequestHandlers: () => ({}) }));
const { context } = vi.hoisted(() => ({ context: { title: "a" } }));
/** What the run's files hold at the moment. */
let data: unknown = null;
vi.mock("../../../src/extension/panels/pageLoad", () => ({
  loadPage: async () => ({ type: "hydrate", page: "calibration", context, data }),
}));

const line = (step: number): MetricsLine => ({ kind: "held-out", step, kl: 0.1, nll: 2, best: true });

it("a panel opened before the first update fills with it, then gets one line after the other", async () => {
  const posted: ToPage[] = [];
  let receive: (message: unknown) => void = () => undefined;
  const webview = {
    postMessage: async (message: ToPage) => posted.push(message),
    onDidReceiveMessage: (listener: typeof receive) => (receive = listener),
  };
  const services = { pages: { add: () => undefined, selectionOf: () => null } } as unknown as Services;
  const source = { kind: "run", runDirectory: "/runs/a" } as const;
  const session = new PageSession(webview as never, "calibration", source, services);
  const settled = () => new Promise((resolve) => setTimeout(resolve));

  receive({ type: "ready", page: "calibration", state: null });
  await settled();
  expect(posted).toEqual([{ type: "hydrate", page: "calibration", context, data: null }]);
  data = { updates: [], heldOut: [{ step: 1, kl: 0.1, nll: 2, best: true }] };
  session.addMetrics(line(1));
  await settled();
  expect(posted.at(-1)).toMatchObject({ type: "hydrate", data });
  session.addMetrics(line(2));
  expect(posted.at(-1)).toEqual({ type: "update", page: "calibration", lines: [line(2)] });
});
