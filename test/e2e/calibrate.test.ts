/** The product's main way, with the real engine: right-click, answers, live progress, verdict, panels, cancel, resume. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EvaluationFile } from "../../src/protocol/evaluation";
import type { RunFile } from "../../src/protocol/run";
import { until } from "./codeServer";
import { chooseFromMenu, rowAction, treeRows } from "./explorer";
import { sampleWorkspace } from "./finishedRun";
import { answerNotification, notification } from "./notifications";
import { appears, click } from "./pointer";
import { openWindow, type Session } from "./session";
import {
  activityBarItem,
  chosenRow,
  layoutSaved,
  openFolder,
  pageInState,
  quickInput,
  runCommand,
  showContainer,
  showEditor,
  summaryPage,
  webview,
} from "./workbench";

/** A whole run of 24 short sequences, on two cores that other work shares. */
const runMs = 300_000;
let session: Session;
const runsFolder = () => path.join(session.workspace, ".reroute", "runs");
const newestRun = () => path.join(runsFolder(), readdirSync(runsFolder()).sort().at(-1)!);
const readRun = (run: string) => JSON.parse(readFileSync(path.join(run, "run.json"), "utf8")) as RunFile;

beforeAll(async () => {
  session = await openWindow("calibrate", sampleWorkspace);
});
afterAll(() => session?.close());

/** Answers of the wizard from its first question up to its summary, which is left open. */
async function answer(sequences: string): ReturnType<typeof summaryPage> {
  const { page } = session;
  const wizard = quickInput(page);
  await wizard.asks("(1/7)", "How should the experts");
  await wizard.choose("reap");
  await wizard.asks("(2/7)", "How many experts");
  await wizard.choose("Keep 12 of 32 experts");
  await wizard.asks("(3/7)", "Which text");
  await wizard.choose("calibration.jsonl");
  await wizard.asks("(4/7)", "Which held-out text");
  await wizard.choose("evaluation.jsonl");
  await wizard.asks("(5/7)", "How much of the text");
  await wizard.choose("Another amount");
  await wizard.asks("(5/7)", "Sequences x tokens");
  await wizard.type(sequences);
  await wizard.accept();
  await wizard.asks("(6/7)", "Where should the result go?");
  await wizard.choose("fine-reap-0.375-calibrated");
  return summaryPage(page);
}

const ready = (view: string) => pageInState(session.page, view);
/** The run is being worked on, as the status bar says. */
const work = () => session.page.locator(".statusbar-item", { hasText: /profile|compress|calibrate|evaluate/ });
const working = () => work().waitFor();

const engines = () =>
  session.server.processes().filter(({ command, state }) => command.includes("dist/engine.js job") && state !== "Z");

async function killEngine(): Promise<void> {
  expect(engines()).toHaveLength(1);
  process.kill(engines()[0]!.pid, "SIGKILL");
}

/** Waits until the row that Enter takes has this label. */
const firstRow = (label: string) => until(async () => (await chosenRow(session.page)) === label);

describe("a full model, from right-click to verdict", () => {
  it("asks for method, ratio and data, with back, and sums up before anything starts", async () => {
    const { page } = session;
    const wizard = quickInput(page);
    await chooseFromMenu(
      page,
      "fine",
      "Calibrate Router",
      wizard.title.filter({ hasText: "Calibrate router of fine" }),
    );
    await wizard.asks("Calibrate router of fine (1/7)", "How should the experts");
    await wizard.rows.filter({ hasText: "transformers" }).first().waitFor();
    await session.screenshot("1-method");
    await wizard.choose("ean");
    await wizard.asks("(2/7)", "How many experts");
    await wizard.choose("Another ratio or count");
    await wizard.asks("(2/7)", "a number of experts");
    await wizard.type("3");
    await wizard.message.filter({ hasText: "the router selects 4 for every token" }).waitFor();
    await session.screenshot("2-validation");
    await wizard.goBack();
    await wizard.asks("(2/7)", "How many experts");
    await wizard.goBack();
    const { text, press } = await answer("24 x 128");
    expect(text).toMatch(/4\.12 M to 1\.90 M parameters, 7\.86 MiB to 3\.62 MiB/);
    for (const label of ["Method", "Loaders", "Held-out text", "Calibration", "Time", "Memory", "Disk", "Output"])
      expect(text).toContain(label);
    for (const choice of ["reap, keeping 37.5 %", "calibration.jsonl · 24 sequences", "evaluation.jsonl"])
      expect(text).toContain(choice);
    // What closes with the window would be said here, too.
    expect(text).toContain("The work goes on when this window is closed");
    expect(existsSync(path.join(session.workspace, ".reroute"))).toBe(false);
    await session.screenshot("3-summary");
    await press("Start");
  });

  it(
    "shows progress in one notification, the status bar, the Runs tree and the live Router KD panel",
    async () => {
      const { page } = session;
      await page.locator(".notification-toast", { hasText: "fine reap-0.375" }).waitFor();
      await page.locator(".statusbar-item", { hasText: /profile|compress|calibrate/ }).waitFor();
      await showContainer(page, "Reroute");
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
      const run = newestRun();
      await until(() => readRun(run).stages.every(({ state }) => state === "done"), runMs);
      const verdict = await notification(page, "KL to the teacher");
      await session.screenshot("5-verdict");
      const { comparison } = JSON.parse(readFileSync(path.join(run, "evaluation.json"), "utf8")) as EvaluationFile;
      const text = (await verdict.textContent())!;
      expect(text).toContain(comparison!.verdict);
      expect(text).toContain(`${comparison!.before.toPrecision(3)} before, ${comparison!.after.toPrecision(3)} after`);
      await page.keyboard.press("Escape");
    },
    runMs,
  );
});

describe("panels", () => {
  it("are restored when the window is reloaded", async () => {
    const { page } = session;
    await ready("calibration");
    // Covered at once: a page that had no time to draw is restored all the same.
    for (const title of ["Divergence", "Trade-off"]) await runCommand(page, `Reroute: Open ${title}`);
    await ready("tradeOff");
    await layoutSaved(page, ["reroute.calibration", "reroute.divergence", "reroute.tradeOff"]);
    await page.reload();
    await activityBarItem(page, "Reroute").waitFor();
    for (const [title, view] of [
      ["Router KD", "calibration"],
      ["Divergence", "divergence"],
      ["Trade-off", "tradeOff"],
    ] as const) {
      await showEditor(page, title);
      await ready(view);
    }
    await runCommand(page, "View: Close All Editors");
  });
});

describe("a run that is stopped", () => {
  it("is started by keyboard alone, and goes on while its panel is closed and opened again", async () => {
    const { page } = session;
    const { keyboard } = page;
    const wizard = quickInput(page);
    // A page that is being drawn may take a key or the focus, and the palette lists what was enabled when it opened: then again.
    const command = "Reroute: Calibrate Router";
    await until(async () => {
      await keyboard.press("F1");
      if (!(await appears(wizard.input, 3000))) return false;
      await keyboard.press("Control+a");
      await keyboard.type(`>${command}`);
      const isFirst = async () =>
        (await wizard.input.inputValue()) === `>${command}` && (await chosenRow(page)) === command;
      if (
        await until(isFirst, 3000).then(
          () => true,
          () => false,
        )
      )
        return true;
      await keyboard.press("Escape");
      return false;
    }, 120_000);
    await keyboard.press("Enter");
    const asks = async (part: string, words: string, typed: string, row: string) => {
      if (part === "") await wizard.asksFor(words);
      else await wizard.asks(part, words);
      await keyboard.type(typed);
      if (row !== "") await firstRow(row);
      await keyboard.press("Enter");
    };
    await asks("", "Which checkpoint?", "fine", "fine");
    await asks("(1/7)", "How should the experts", "reap", "reap");
    await asks("(2/7)", "How many experts", "Keep 12", "Keep 12 of 32 experts");
    await asks("(3/7)", "Which text", "calibration.jsonl", "calibration.jsonl");
    await asks("(4/7)", "Which held-out text", "evaluation.jsonl", "evaluation.jsonl");
    await asks("(5/7)", "How much of the text", "Another", "Another amount...");
    await wizard.asks("(5/7)", "Sequences x tokens");
    await until(async () => (await wizard.input.inputValue()) === "512 x 256");
    await keyboard.press("Control+a");
    await asks("(5/7)", "Sequences x tokens", "1500 x 128", "");
    await asks("(6/7)", "Where should the result go?", "", "");
    // Start has the focus, so that Enter presses it.
    const { frame: summary } = await summaryPage(page);
    await until(() => summary.evaluate(`document.activeElement.textContent === "Start"`));
    await session.screenshot("3-summary-by-keyboard");
    await keyboard.press("Enter");
    await until(() => readdirSync(runsFolder()).length === 2);
    await working();
    const panel = page.getByRole("tab", { name: /Router KD/ });
    await panel.waitFor();
    await runCommand(page, "View: Close All Editors");
    await panel.waitFor({ state: "hidden" });
    await working();
    await runCommand(page, "Reroute: Open Router KD");
    await wizard.asksFor("Which run?");
    await click(wizard.rows.filter({ hasText: "running" }).first());
    const frame = await webview(page, "calibration");
    await until(async () =>
      ["ready", "empty"].includes((await frame.getAttribute("body", "data-state").catch(() => null)) ?? ""),
    );
    expect(await frame.locator("header .live").isVisible()).toBe(true);
    await session.screenshot("6-reopened");
  });

  it("is cancelled by command and resumed from the tree", async () => {
    const { page } = session;
    await runCommand(page, "Reroute: Cancel Run");
    await until(() => readRun(newestRun()).stages.some(({ state }) => state === "cancelled"));
    await work().waitFor({ state: "hidden" });
    // The reloaded window may not have known that it was shown.
    await showContainer(page, "Reroute");
    await rowAction(treeRows(page, "Runs").filter({ hasText: "cancelled" }).first(), "Resume Run", work());
  });

  it("survives the death of the engine: the reason is shown, and Resume goes on", async () => {
    const { page } = session;
    await killEngine();
    const reason = "The engine process ended while it worked";
    await notification(page, reason);
    await session.screenshot("7-crash");
    await answerNotification(page, reason, "Resume");
    await working();
    expect(engines()).toHaveLength(1);
  });

  it(
    "goes on without its window; the next one shows it live and cancels it",
    async () => {
      const { page, server } = session;
      const extensionHost = () =>
        server.processes().filter(({ command, state }) => command.includes("type=extensionHost") && state !== "Z");
      const [engine] = engines();
      await page.goto("about:blank");
      // A closed tab of the browser keeps its extension host for hours, in case that it comes back.
      for (const { pid } of extensionHost()) process.kill(pid, "SIGKILL");
      await until(() => extensionHost().length === 0);
      const progress = path.join(newestRun(), "progress.json");
      await until(() => existsSync(progress), runMs);
      const at = () => readFileSync(progress, "utf8");
      const before = at();
      await until(() => at() !== before, runMs);
      expect(engines().map(({ pid }) => pid)).toEqual([engine!.pid]);
      await openFolder(page, server.url, session.workspace, "fine");
      await showContainer(page, "Reroute");
      // Its row says how far it is, as in the window that started it.
      const row = treeRows(page, "Runs").filter({ hasText: "%" }).first();
      await row.waitFor();
      await session.screenshot("8-next-window");
      const cancelled = treeRows(page, "Runs").filter({ hasText: "cancelled" }).first();
      await rowAction(row, "Cancel Run", cancelled);
      await until(() => engines().length === 0);
      await rowAction(cancelled, "Resume Run", work());
    },
    runMs,
  );

  it("is offered for resume when the next window opens, without an engine being started to ask", async () => {
    const { page, server } = session;
    await until(() => readRun(newestRun()).stages.some(({ state }) => state === "running"));
    await page.goto("about:blank");
    for (const { pid } of engines()) process.kill(pid, "SIGKILL");
    await until(() => engines().length === 0);
    await openFolder(page, server.url, session.workspace, "fine");
    await notification(page, "was not finished");
    await session.screenshot("9-offered");
    await answerNotification(page, "was not finished", "Resume");
    await working();
    await runCommand(page, "Reroute: Cancel Run");
    await until(() => readRun(newestRun()).stages.some(({ state }) => state === "cancelled"));
  });

  it("leaves no error behind that nobody was told of", () => {
    expect(session.pageErrors).toEqual([]);
    expect(session.external).toEqual([]);
    expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
  });
});
