import { describe, expect, it } from "vitest";
import { saveFileName } from "../../../src/extension/panels/fileName";
import { linesBehind } from "../../../src/extension/panels/newLines";
import { PageHub, type OpenPage } from "../../../src/extension/panels/pageHub";
import { pageShell } from "../../../src/extension/panels/pageShell";
import { parseFromPage } from "../../../src/protocol/pageMessages";

const html = pageShell({
  page: "routing",
  title: `<img src=x onerror=alert(1)>"'&`,
  language: "en",
  scriptUri: "https://file+.vscode-resource.vscode-cdn.net/dist/webview/routing.js",
  nonce: "bm9uY2U=",
  sentences: { "Layer {0}": 'Schicht "{0}" <b>' },
});

describe("HTML of a page", () => {
  const policy = /Content-Security-Policy" content="([^"]+)"/.exec(html)![1]!.replaceAll("&#39;", "'");
  const directives = new Map(
    policy.split("; ").map((directive) => [directive.split(" ")[0], directive.split(" ").slice(1).join(" ")]),
  );

  it("lets in nothing but its own script and styles", () => {
    expect(directives.get("default-src")).toBe("'none'");
    expect(directives.get("script-src")).toBe("'nonce-bm9uY2U='");
    expect(directives.get("style-src")).toBe("'nonce-bm9uY2U='");
    expect(policy).not.toContain("unsafe");
    expect(directives.has("connect-src")).toBe(false);
  });

  it("carries the nonce on its one script and for the UI toolkit, and no data", () => {
    expect(html.match(/<script[^>]*>/g)).toEqual([
      '<script nonce="bm9uY2U=" src="https://file+.vscode-resource.vscode-cdn.net/dist/webview/routing.js">',
    ]);
    expect(html).toContain('<meta property="csp-nonce" content="bm9uY2U=">');
    expect(html).toContain('<body data-view="routing">');
  });

  it("carries translations as an attribute, inert", () => {
    const [, content] = /<meta name="sentences" content="([^"<>]*)">/.exec(html)!;
    const text = content!.replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)));
    expect(JSON.parse(text)).toEqual({ "Layer {0}": 'Schicht "{0}" <b>' });
  });

  it("shows hostile names inert", () => {
    expect(html).toContain("<title>&#60;img src=x onerror=alert(1)&#62;&#34;&#39;&#38;</title>");
    expect(html).not.toContain("<img");
  });
});

describe("names for saved files", () => {
  it.each([
    ["routing.csv", "csv", "routing.csv"],
    ["../../etc/passwd", "csv", "etc-passwd.csv"],
    ["a\u202Egnp.exe", "png", "a-gnp.png"],
    ["con", "csv", "reroute.csv"],
    ["", "json", "reroute.json"],
    ["x".repeat(10_000), "csv", `${"x".repeat(100)}.csv`],
    ["C:\\temp\\r.png", "png", "C-temp-r.png"],
    ["Übersicht 1.png", "png", "Übersicht 1.png"],
  ])("%.30s", (proposed, extension, expected) => expect(saveFileName(proposed, extension)).toBe(expected));
});

describe("messages from pages", () => {
  it.each<[string, unknown, boolean]>([
    ["ready", { type: "ready", page: "routing", state: null }, true],
    ["a selection", { type: "select", layer: 3, expert: null }, true],
    [
      "a known command",
      { type: "request", id: 1, method: "command", params: { command: "openReport", runDirectory: null } },
      true,
    ],
    [
      "an unknown command",
      { type: "request", id: 1, method: "command", params: { command: "workbench.action.quit", runDirectory: null } },
      false,
    ],
    ["a file path", { type: "request", id: 1, method: "openFile", params: { file: "../../etc/passwd" } }, false],
    ["another method", { type: "request", id: 1, method: "eval", params: {} }, false],
    ["parameters of another method", { type: "request", id: 1, method: "save", params: { tensor: "x" } }, false],
    ["a fraction of a layer", { type: "select", layer: 0.5, expert: 1 }, false],
    ["nothing", undefined, false],
    ["a string", "ready", false],
  ])("%s", (_, message, accepted) => expect(parseFromPage(message).ok).toBe(accepted));
});

it("lines that came while the data was read are sent once", () => {
  const data = {
    updates: [{ step: 4, loss: 1, learningRate: 1, gradientNorm: 1 }],
    heldOut: [{ step: 0, kl: 1, nll: 1, best: true }],
  };
  const update = (step: number) => ({
    kind: "update" as const,
    step,
    loss: 1,
    learningRate: 1,
    gradientNorm: 1,
    tokens: 1,
    seconds: 1,
  });
  const look = (step: number) => ({ kind: "held-out" as const, step, kl: 1, nll: 1, best: false });
  expect(linesBehind(data, [update(3), update(4), look(0), update(5), look(5)])).toEqual([update(5), look(5)]);
  expect(linesBehind({ updates: [], heldOut: [] }, [look(0), update(1)])).toEqual([look(0), update(1)]);
});

describe("pages of one window", () => {
  const page = (runDirectory: string | null) => {
    const seen: string[] = [];
    const open: OpenPage = {
      runDirectory,
      select: ({ layer, expert }) => seen.push(`select ${layer} ${expert ?? "all"}`),
      addMetrics: ({ kind }) => seen.push(kind),
      reload: () => seen.push("reload"),
      settingsChanged: () => seen.push("settings"),
    };
    return { open, seen };
  };

  it("share a selection within a run, and give it to pages opened later", () => {
    const hub = new PageHub();
    const [first, second, other, all] = [page("/a"), page("/a"), page("/b"), page(null)];
    for (const { open } of [first, second, other, all]) hub.add(open);
    hub.select(first.open, { layer: 2, expert: null });
    expect([first.seen, second.seen, other.seen, all.seen]).toEqual([[], ["select 2 all"], [], []]);
    expect(hub.selectionOf("/a")).toEqual({ layer: 2, expert: null });
    expect(hub.selectionOf("/b")).toBeNull();
  });

  it("hear of their own run only; pages over all runs hear of every one", () => {
    const hub = new PageHub();
    const [own, other, all] = [page("/a"), page("/b"), page(null)];
    for (const { open } of [own, other, all]) hub.add(open);
    hub.metrics("/a", { kind: "held-out", step: 1, kl: 1, nll: 1, best: true });
    hub.runChanged("/a");
    hub.remove(own.open);
    hub.runChanged("/a");
    expect([own.seen, other.seen, all.seen]).toEqual([["held-out", "reload"], [], ["reload", "reload"]]);
  });
});
