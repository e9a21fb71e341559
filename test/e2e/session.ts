/** One VS Code, one browser and one workspace for a test file; what it leaves behind goes to out/e2e/<name>. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Browser, Page } from "playwright-core";
import { startCodeServer, type CodeServer, type CodeServerOptions } from "./codeServer";
import { activityBarItem, launchBrowser, openFolder } from "./workbench";

const root = path.resolve(import.meta.dirname, "../..");

export const wholeScreen = { width: 1440, height: 960 };

export interface Session {
  server: CodeServer;
  browser: Browser;
  page: Page;
  workspace: string;
  /** Hosts outside this machine that the browser asked for; each was refused. */
  external: string[];
  pageErrors: string[];
  screenshot: (name: string) => Promise<void>;
  /** Folder of what this session leaves behind. */
  out: string;
  /** The extension's own log, "" before it has written any. */
  extensionLog: () => string;
  close: () => Promise<void>;
}

interface SessionOptions extends Partial<CodeServerOptions> {
  /** Pixels of pictures for one of the page; tests take 1. */
  scale?: number;
}

/**
 * A session whose window shows its workspace and the extension's item in the activity bar.
 * @param fill makes the workspace before it is opened
 * @param shows a file or folder of it that the explorer must list
 * @param opens what of it is opened, such as a *.code-workspace file; default: itself
 */
export async function openWindow(
  name: string,
  fill: (workspace: string, session: Session) => unknown,
  { shows = "fine", opens = "", ...options }: SessionOptions & { shows?: string; opens?: string } = {},
): Promise<Session> {
  const session = await openSession(name, options);
  const { page, server, workspace } = session;
  try {
    await fill(workspace, session);
    await openFolder(page, server.url, path.join(workspace, opens), shows);
    await activityBarItem(page, "Reroute").waitFor();
  } catch (error) {
    // A file that could not begin has nobody to close it.
    await session.close();
    throw error;
  }
  return session;
}

export async function openSession(name: string, { scale = 1, ...options }: SessionOptions = {}): Promise<Session> {
  const out = path.join(root, "out", "e2e", name);
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const folder = mkdtempSync(path.join(tmpdir(), `reroute-${name}-`));
  const workspace = path.join(folder, "workspace");
  mkdirSync(workspace);
  const server = await startCodeServer({ profile: path.join(folder, "profile"), vsix: newestPackage(), ...options });
  const browser = await launchBrowser();
  const page = await browser.newPage({ viewport: wholeScreen, deviceScaleFactor: scale });
  // Generous: the machine may be busy with other suites. A wait ends as soon as its state is there.
  page.setDefaultTimeout(60_000);
  const external: string[] = [];
  const pageErrors: string[] = [];
  page.on("pageerror", (error) => pageErrors.push(String(error)));
  await page.context().route(
    (url) => url.hostname !== "127.0.0.1" && url.protocol.startsWith("http"),
    (route) => {
      external.push(new URL(route.request().url()).hostname);
      return route.abort();
    },
  );
  return {
    server,
    browser,
    page,
    workspace,
    external,
    pageErrors,
    out,
    screenshot: async (picture) => {
      await page.screenshot({ path: path.join(out, `${picture}.png`) });
    },
    extensionLog: () => findLog(server.userData),
    close: async () => {
      await page.screenshot({ path: path.join(out, "last.png") }).catch(() => undefined);
      await browser.close();
      await server.stop();
      writeFileSync(path.join(out, "code-server.log"), server.log());
      const logs = path.join(server.userData, "logs");
      if (existsSync(logs)) cpSync(logs, path.join(out, "logs"), { recursive: true });
      // A process that was just ended may still have left a file in the meantime.
      rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    },
  };
}

function newestPackage(): string {
  const folder = path.join(root, "out");
  const packages = existsSync(folder)
    ? readdirSync(folder).filter((name) => name.endsWith(`-linux-${process.arch}.vsix`))
    : [];
  const newest = packages.sort().at(-1);
  if (!newest) throw new Error('There is no package in out/: run "npm run package" first');
  return path.join(folder, newest);
}

function findLog(userData: string): string {
  const logs = path.join(userData, "logs");
  if (!existsSync(logs)) return "";
  const files = readdirSync(logs, { recursive: true, encoding: "utf8" }).filter((file) =>
    /reroute\.reroute.*\.log$/.test(file),
  );
  return files.map((file) => readFileSync(path.join(logs, file), "utf8")).join("\n");
}
