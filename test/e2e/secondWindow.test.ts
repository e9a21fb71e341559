/** Two windows on one workspace: what one works on, the other shows and cancels; and what becomes of work without its window. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { RunFile } from "../../src/protocol/run";
import { until } from "./codeServer";
import { chooseFromRow, treeRows } from "./explorer";
import { sampleWorkspace, small, writeRecipe } from "./finishedRun";
import { openWindow, wholeScreen, type Session } from "./session";
import { openFolder, pageInState, quickInput, runCommand, showContainer } from "./workbench";

const runMs = 300_000;
let session: Session;
let second: Page;
const row = (page: Page, text: string | RegExp) => treeRows(page, "Runs").filter({ hasText: text }).first();
const runsFolder = () => path.join(session.workspace, ".reroute", "runs");
const newestRun = () => path.join(runsFolder(), readdirSync(runsFolder()).sort().at(-1)!);
const states = () =>
  (JSON.parse(readFileSync(path.join(newestRun(), "run.json"), "utf8")) as RunFile).stages.map(({ state }) => state);
const processes = (part: string) =>
  session.server.processes().filter(({ command, state }) => command.includes(part) && state !== "Z");
const engines = () => processes("dist/engine.js job");

beforeAll(async () => {
  session = await openWindow("second-window", (workspace) => {
    sampleWorkspace(workspace);
    // Long enough to be looked at from two windows.
    writeRecipe(workspace, "long", "frequency", { ...small, sequences: 256, epochs: 200 });
  });
  await showContainer(session.page, "Reroute");
});
afterAll(() => session?.close());

async function start(): Promise<void> {
  const { page } = session;
  await runCommand(page, "Reroute: Run Recipe");
  await quickInput(page).asksFor("Which recipe?");
  await quickInput(page).choose("long.reroute.json");
  await row(page, /calibrate: .* %/).waitFor({ timeout: runMs });
}

it(
  "a second window shows a run as it goes, in its tree and its Overview, and cancels it",
  async () => {
    const { page, server, workspace } = session;
    await start();
    second = await page.context().browser()!.newPage({ viewport: wholeScreen });
    second.setDefaultTimeout(60_000);
    await openFolder(second, server.url, workspace, "fine");
    await showContainer(second, "Reroute");
    const live = row(second, /calibrate: .* %/);
    await live.waitFor({ timeout: 120_000 });
    const overview = await pageInState(second, "overview");
    const progress = () => overview.textContent("dl.facts");
    await until(async () => /Progress\s*\d+/.test((await progress()) ?? ""));
    const [then, shown] = [await live.textContent(), await progress()];
    expect(shown).not.toMatch(/not known yet/);
    await until(async () => (await row(second, /calibrate: .* %/).textContent()) !== then, 120_000);
    await second.screenshot({ path: path.join(session.out, "1-second-window.png") });
    expect(engines()).toHaveLength(1);
    await chooseFromRow(live, "Cancel Run", () => row(second, /cancelled/).isVisible());
    await row(page, /cancelled/).waitFor({ timeout: runMs });
    expect(states()).toContain("cancelled");
    await second.close();
  },
  2 * runMs,
);

it(
  "work that was begun to go on stops with its window, once the setting says so",
  async () => {
    const { page, workspace } = session;
    await start();
    const folder = path.join(workspace, ".vscode");
    mkdirSync(folder, { recursive: true });
    writeFileSync(path.join(folder, "settings.json"), JSON.stringify({ "reroute.onWindowClose": "stop" }));
    // VS Code tells of a changed file a moment later, and the extension tells the engine.
    await until(() => session.extensionLog().includes("engine/onDisconnect: exit"));
    await page.goto("about:blank");
    for (const { pid } of processes("type=extensionHost")) process.kill(pid, "SIGKILL");
    await until(() => engines().length === 0, 120_000);
    expect(states()).not.toContain("failed");
    expect(states().at(-1)).not.toBe("done");
  },
  2 * runMs,
);

it("leaves no error behind that nobody was told of", () => {
  expect(session.pageErrors).toEqual([]);
  expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
});
