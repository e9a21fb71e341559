/** The product's main way, with the real engine: right-click, answers, live progress, verdict, panels, cancel, resume. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import type { Frame } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EvaluationFile } from "../../src/protocol/evaluation";
import type { MetricsLine } from "../../src/protocol/metrics";
import type { RunFile } from "../../src/protocol/run";
import { until } from "./codeServer";
import { openSession, type Session } from "./session";
import {
  activityBarItem,
  contextMenu,
  menuItems,
  openFolder,
  quickInput,
  runCommand,
  treeRows,
  webview,
} from "./workbench";

/** A whole run of 24 short sequences, on two cores that other work shares. */
const runMs = 170_000;
let session: Session;
const runsFolder = () => path.join(session.workspace, ".reroute", "runs");
const newestRun = () => path.join(runsFolder(), readdirSync(runsFolder()).sort().at(-1)!);
const readRun = (run: string) => JSON.parse(readFileSync(path.join(run, "run.json"), "utf8")) as RunFile;
const readMetrics = (run: string) =>
  readFileSync(path.join(run, "metrics.jsonl"), "utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as MetricsLine);

beforeAll(async () => {
  session = await openSession("calibrate");
  const { workspace, page, server } = session;
  mkdirSync(path.join(workspace, "texts"));
  cpSync("media/sample/checkpoint", path.join(workspace, "fine"), { recursive: true });
  for (const text of ["calibration.jsonl", "evaluation.jsonl"])
    cpSync(`media/sample/${text}`, path.join(workspace, "texts", text));
  await openFolder(page, server.url, workspace, "fine");
  await activityBarItem(page, "Reroute").waitFor();
});
afterAll(() => session?.close());

/** Answers of the wizard up to its summary, which is left open. */
async function answer(sequences: string): Promise<ReturnType<typeof quickInput>> {
  const { page } = session;
  const wizard = quickInput(page);
  await wizard.choose("reap");
  await page
    .getByText("How many experts", { exact: false })
    .waitFor()
    .catch(() => undefined);
  await wizard.choose("Keep 12 of 32 experts");
  await wizard.choose("calibration.jsonl");
  await wizard.choose("Another amount");
  await wizard.message.filter({ hasText: "Sequences x tokens" }).waitFor();
  await wizard.input.fill(sequences);
  await page.keyboard.press("Enter");
  await wizard.rows.filter({ hasText: "Disk" }).waitFor({ timeout: 60_000 });
  return wizard;
}

/** The numbers of a figure's table. */
async function tableOf(frame: Frame, figure: string): Promise<string[][]> {
  const table = frame.locator(`[data-figure=${figure}] tbody tr`);
  if ((await table.count()) === 0) await frame.locator(`[data-figure=${figure}] button:text-is("Table")`).click();
  await table.first().waitFor();
  const rows = await table.all();
  return Promise.all(
    rows.map(async (row) => (await row.locator("th, td").allTextContents()).map((cell) => cell.trim())),
  );
}

/** "1.53·10⁻¹⁷" and "0.25" as numbers. */
function numberOf(text: string): number {
  const [mantissa, power = ""] = text.split("·10");
  const exponent = power.replace(/./g, (c) => "-0123456789"["⁻⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(c)]!);
  return Number(mantissa) * 10 ** Number(exponent);
}

const ready = (frame: Frame) => frame.locator("body[data-state=ready]").waitFor({ timeout: 30_000 });

describe("a full model, from right-click to verdict", () => {
  it("asks for method, ratio and data, with back, and sums up before anything starts", async () => {
    const { page } = session;
    await contextMenu(page, "fine");
    await menuItems(page).filter({ hasText: "Calibrate Router" }).click();
    const wizard = quickInput(page);
    await wizard.title.filter({ hasText: "Calibrate router of fine (1/5)" }).waitFor();
    await session.screenshot("1-method");
    await wizard.choose("ean");
    await wizard.title.filter({ hasText: "(2/5)" }).waitFor();
    await wizard.choose("Another ratio or count");
    await wizard.input.fill("3");
    await wizard.message.filter({ hasText: "the router selects 4 for every token" }).waitFor();
    await session.screenshot("2-validation");
    await wizard.back.click();
    await wizard.rows.filter({ hasText: "Keep 12 of 32" }).waitFor();
    await wizard.back.click();
    await wizard.title.filter({ hasText: "(1/5)" }).waitFor();
    const summary = await answer("24 x 128");
    const text = (await summary.rows.allTextContents()).join("\n");
    expect(text).toMatch(/4\.1 M to 1\.9 M parameters, 7\.9 MiB to 3\.6 MiB/);
    for (const label of ["Time", "Memory", "Disk", "Output"]) expect(text).toContain(label);
    expect(existsSync(path.join(session.workspace, ".reroute"))).toBe(false);
    await session.screenshot("3-summary");
    await summary.choose("Start");
  });

  it(
    "shows progress in one notification, the status bar, the Runs tree and the live Router KD panel",
    async () => {
      const { page } = session;
      const notification = page.locator(".notification-toast", { hasText: "fine reap-0.375" });
      await notification.waitFor();
      await page.locator(".statusbar-item", { hasText: /profile|compress|calibrate/ }).waitFor();
      await activityBarItem(page, "Reroute").click();
      await treeRows(page, "Runs").filter({ hasText: "fine reap-0.375" }).waitFor();
      const overview = await webview(page, "overview");
      await overview.locator("body[data-state=ready]", { hasText: "fine reap-0.375" }).waitFor();
      const panel = await webview(page, "calibration");
      await panel.locator("body[data-state=ready]").waitFor({ timeout: runMs });
      await session.screenshot("4-live");
    },
    runMs,
  );

  it(
    "ends with the verdict of the run's files",
    async () => {
      const { page } = session;
      const verdict = page.locator(".notification-toast", { hasText: "KL to the teacher" });
      await verdict.waitFor({ timeout: runMs });
      await session.screenshot("5-verdict");
      const run = newestRun();
      expect(readRun(run).stages.every(({ state }) => state === "done")).toBe(true);
      const { comparison } = JSON.parse(readFileSync(path.join(run, "evaluation.json"), "utf8")) as EvaluationFile;
      const text = (await verdict.textContent())!;
      expect(text).toContain(comparison!.verdict);
      expect(text).toContain(`${comparison!.before.toPrecision(3)} before, ${comparison!.after.toPrecision(3)} after`);
      await page.keyboard.press("Escape");
    },
    runMs,
  );
});

describe("panels show the run folder's numbers", () => {
  it("Router KD: every update's loss", async () => {
    const panel = await webview(session.page, "calibration");
    await ready(panel);
    const updates = readMetrics(newestRun()).filter((line) => line.kind === "update");
    expect(updates.length).toBeGreaterThan(0);
    const rows = await tableOf(panel, "loss");
    const shown = new Map(rows.map(([step, loss]) => [Number(step), numberOf(loss!)]));
    for (const { step, loss } of updates) expect(shown.get(step)).toBeCloseTo(loss, 3);
    await session.screenshot("panel-calibration");
  });

  it("Divergence: routing KL by layer, before and after", async () => {
    await runCommand(session.page, "Reroute: Open Divergence");
    const panel = await webview(session.page, "divergence");
    await ready(panel);
    const { before, after } = JSON.parse(
      readFileSync(path.join(newestRun(), "evaluation.json"), "utf8"),
    ) as EvaluationFile;
    const rows = await tableOf(panel, "routingKl");
    expect(rows).toHaveLength(6);
    rows.forEach((row, i) => {
      expect(numberOf(row[1]!)).toBeCloseTo(before!.routing![i]!.routingKl, 3);
      expect(numberOf(row[2]!)).toBeCloseTo(after!.routing![i]!.routingKl, 3);
    });
    await session.screenshot("panel-divergence");
  });

  it.each([
    ["Routing", "routing"],
    ["Similarity", "similarity"],
    ["Trade-off", "tradeOff"],
  ])("%s is drawn", async (title, view) => {
    await runCommand(session.page, `Reroute: Open ${title}`);
    const panel = await webview(session.page, view);
    await ready(panel);
    await session.screenshot(`panel-${view}`);
  });

  it("are restored when the window is reloaded", async () => {
    const { page } = session;
    await page.waitForTimeout(5000); // the browser's workbench keeps its layout every few seconds only
    await page.reload();
    await activityBarItem(page, "Reroute").waitFor();
    for (const [title, view] of [
      ["Router KD", "calibration"],
      ["Divergence", "divergence"],
      ["Trade-off", "tradeOff"],
    ] as const) {
      await page.getByRole("tab", { name: new RegExp(title) }).click();
      await ready(await webview(page, view, 60_000));
    }
  });
});

describe("a run that is stopped", () => {
  it("is cancelled by command and resumed from the tree", async () => {
    const { page } = session;
    await runCommand(page, "Reroute: Calibrate Router");
    await quickInput(page).choose("fine");
    const wizard = await answer("400 x 128");
    await wizard.choose("Start");
    await until(() => readdirSync(runsFolder()).length === 2, 60_000);
    await page.locator(".statusbar-item", { hasText: /profile/ }).waitFor({ timeout: 60_000 });
    await runCommand(page, "Reroute: Cancel Run");
    await until(() => readRun(newestRun()).stages.some(({ state }) => state === "cancelled"), 60_000);
    const row = treeRows(page, "Runs").filter({ hasText: "cancelled" }).first();
    await row.waitFor();
    await row.hover();
    await row.locator('[aria-label="Resume Run"]').click();
    await page.locator(".statusbar-item", { hasText: /profile|compress|calibrate/ }).waitFor({ timeout: 60_000 });
  }, 180_000);

  it("survives the death of the engine: the reason is shown, and Resume goes on", async () => {
    const { page, server } = session;
    const engines = () =>
      server.processes().filter(({ command, state }) => command.includes("dist/engine.js") && state !== "Z");
    expect(engines()).toHaveLength(1);
    process.kill(engines()[0]!.pid, "SIGKILL");
    const toast = page.locator(".notification-toast", { hasText: "The engine process ended while it worked" });
    await toast.waitFor();
    await session.screenshot("6-crash");
    await toast.getByText("Resume", { exact: true }).click();
    await page.locator(".statusbar-item", { hasText: /profile|compress|calibrate/ }).waitFor({ timeout: 60_000 });
    expect(engines()).toHaveLength(1);
    await runCommand(page, "Reroute: Cancel Run");
    await until(() => readRun(newestRun()).stages.some(({ state }) => state === "cancelled"), 60_000);
  }, 120_000);

  it("leaves no error behind that nobody was told of", () => {
    expect(session.pageErrors).toEqual([]);
    expect(session.external).toEqual([]);
    expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
  });
});
