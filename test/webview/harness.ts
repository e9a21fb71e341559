import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { chromium, type Browser, type Page } from "playwright-core";
import type { FromPage, ToPage } from "../../src/protocol/pageMessages";
import { pageNames, type PageName } from "../../src/protocol/pageData";
import { pageBundle } from "../../scripts/pageBundle.mjs";
import { themes, type ThemeName } from "./themes";

const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
export const screenshots = "out/webview";

/** The pages in one browser: each built as esbuild.mjs does, served with the shell and policy of webview/README.md. */
export class PageHarness {
  private constructor(
    private readonly browser: Browser,
    private readonly server: Server,
    private readonly origin: string,
    readonly bundleBytes: Record<string, number>,
  ) {}

  static async start(library = process.env["REROUTE_COMPONENTS"] ?? "toolkit"): Promise<PageHarness> {
    if (!existsSync(executablePath)) {
      const { status } = spawnSync("bash", ["test/e2e/setup-browser.sh"], { stdio: "inherit" });
      if (status !== 0) throw new Error("chromium is missing and could not be installed: see the lines above");
    }
    mkdirSync(screenshots, { recursive: true });
    const scripts = await bundles(library);
    const server = createServer((request, response) => {
      const name = /^\/(\w+)(\.js)?$/.exec(request.url ?? "");
      const script = name && scripts[name[1]!];
      if (!script) return void response.writeHead(404).end();
      if (name[2]) response.writeHead(200, { "content-type": "text/javascript" }).end(script);
      else response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(shell(name[1]!));
    });
    await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
    const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--force-color-profile=srgb"] });
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const sizes = Object.fromEntries(Object.entries(scripts).map(([name, text]) => [name, text.length]));
    return new PageHarness(browser, server, origin, sizes);
  }

  async stop(): Promise<void> {
    await this.browser.close();
    this.server.close();
  }

  async open(page: PageName, options: OpenOptions = {}): Promise<PageUnderTest> {
    const { theme = "dark", state = null, width = 1100, height = 1000 } = options;
    const context = await this.browser.newContext({ viewport: { width, height }, reducedMotion: "reduce" });
    const tab = await context.newPage();
    const problems: string[] = [];
    tab.on("pageerror", (error) => problems.push(`error: ${error.message}`));
    tab.on("console", (message) => {
      if (message.type() === "error") problems.push(`console: ${message.text()}`);
    });
    await tab.addInitScript(`(${stub})(${JSON.stringify(state)}, ${JSON.stringify(themes[theme])})`);
    await tab.goto(`${this.origin}/${page}`);
    const opened = new PageUnderTest(tab, problems);
    await opened.until("() => window.posted.length > 0");
    return opened;
  }
}

export interface OpenOptions {
  theme?: ThemeName;
  state?: unknown;
  width?: number;
  height?: number;
}

/** One opened page, seen from the host's side. */
export class PageUnderTest {
  constructor(
    readonly tab: Page,
    private readonly problems: string[],
  ) {}

  /** Uncaught errors, console errors (refused styles appear there) and reported policy violations. */
  async troubles(): Promise<string[]> {
    const posted = await this.posted();
    return [
      ...this.problems,
      ...posted
        .filter((message) => message.type === "cspViolation" || message.type === "log")
        .map((message) => JSON.stringify(message)),
    ];
  }

  async send(message: ToPage): Promise<void> {
    await this.sendRaw(message);
    await this.settle();
  }

  async sendRaw(message: unknown): Promise<void> {
    await this.tab.evaluate(`window.postMessage(${JSON.stringify(message)})`);
  }

  /** Four frames: the page has drawn what it was sent, the lower charts too. */
  async settle(): Promise<void> {
    await this.tab.evaluate(
      "(async () => { for (let i = 0; i < 4; i++) await new Promise((done) => requestAnimationFrame(done)); })()",
    );
  }

  /** Polls from outside: waiting inside the page would need eval, which the policy refuses after a while. */
  async until(condition: string): Promise<void> {
    const end = Date.now() + 60_000;
    while (!(await this.tab.evaluate(`!!(${condition})()`))) {
      if (Date.now() > end) throw new Error(`never became true: ${condition}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  }

  posted(): Promise<FromPage[]> {
    return this.tab.evaluate("window.posted");
  }

  /** Waits for a request of the page and answers it. */
  async answer(method: string, result: unknown): Promise<Extract<FromPage, { type: "request" }>> {
    const request = await this.nextRequest(method);
    await this.send({ type: "response", id: request.id, ok: true, result });
    return request;
  }

  /** Waits for a request of the page and refuses it. */
  async refuse(method: string, code: string, message: string): Promise<void> {
    const request = await this.nextRequest(method);
    await this.send({ type: "response", id: request.id, ok: false, error: { code, message } });
  }

  private async nextRequest(method: string): Promise<Extract<FromPage, { type: "request" }>> {
    const find = `() => window.posted.find((m) => m.type === "request" && m.method === "${method}" && !window.answered.has(m.id))`;
    await this.until(find);
    const request: Extract<FromPage, { type: "request" }> = await this.tab.evaluate(`(${find})()`);
    await this.tab.evaluate(`window.answered.add(${request.id})`);
    return request;
  }

  savedState(): Promise<unknown> {
    return this.tab.evaluate("window.savedState");
  }

  async theme(name: ThemeName): Promise<void> {
    await this.tab.evaluate(`window.applyTheme(${JSON.stringify(themes[name])})`);
    await this.settle();
    await this.settle();
  }

  async screenshot(name: string): Promise<void> {
    await this.settle();
    await this.tab.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
  }

  /** The rows of a virtual table, as displayed. */
  cells(scope: string): Promise<string[][]> {
    return this.tab.evaluate(
      `[...document.querySelectorAll('${scope} tbody tr:not(.spacer)')].map((row) => [...row.cells].map((c) => c.textContent))`,
    );
  }

  measures(name: string): Promise<number[]> {
    return this.tab.evaluate(`performance.getEntriesByName(${JSON.stringify(name)}).map((entry) => entry.duration)`);
  }

  async close(): Promise<void> {
    await this.tab.context().close();
  }
}

/** What VS Code gives a webview: the API object, the theme's properties on <html> and the class of <body>. */
const stub = `function (state, theme) {
  window.posted = [];
  window.answered = new Set();
  window.savedState = state;
  window.acquireVsCodeApi = () => ({
    postMessage: (message) => window.posted.push(JSON.parse(JSON.stringify(message))),
    getState: () => window.savedState,
    setState: (next) => { window.savedState = JSON.parse(JSON.stringify(next)); },
  });
  window.applyTheme = ({ bodyClass, colours }) => {
    const { style } = document.documentElement;
    for (const name of [...style]) style.removeProperty(name);
    for (const [name, value] of Object.entries(colours)) style.setProperty("--vscode-" + name, value);
    style.setProperty("--vscode-font-family", "DejaVu Sans, sans-serif");
    style.setProperty("--vscode-font-size", "13px");
    document.body.className = bodyClass;
  };
  const observer = new MutationObserver(() => {
    if (!document.body) return;
    observer.disconnect();
    window.applyTheme(theme);
  });
  observer.observe(document, { childList: true, subtree: true });
}`;

function shell(page: string): string {
  const nonce = randomBytes(16).toString("base64");
  return `<!DOCTYPE html>
<html lang="en"><head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'">
<meta property="csp-nonce" content="${nonce}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reroute: ${page}</title>
</head><body data-view="${page}"><script nonce="${nonce}" src="/${page}.js"></script></body></html>`;
}

async function bundles(library: string): Promise<Record<string, string>> {
  const { outputFiles } = await build({
    ...pageBundle(library),
    minify: true,
    write: false,
    outdir: "out/webview/build",
    entryPoints: Object.fromEntries(pageNames.map((page) => [page, `webview/${page}/main.ts`])),
  });
  return Object.fromEntries(outputFiles.map(({ path, text }) => [/(\w+)\.js$/.exec(path)![1]!, text]));
}
