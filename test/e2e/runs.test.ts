/** What people do with the runs they have: each command in the tree, by its key or link, and what becomes of it on disk. */
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import type { Frame, Locator } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "./codeServer";
import { chooseFromRow, expand, explorerItem, treeRows } from "./explorer";
import { copyOfRun, finishedRun, sampleWorkspace, small, writeRecipe } from "./finishedRun";
import { answerNotification, notification } from "./notifications";
import { appears, click, tryClick } from "./pointer";
import { openWindow, type Session } from "./session";
import {
  activityBarItem,
  pageInState,
  quickInput,
  runCommand,
  showContainer,
  showEditor,
  summaryPage,
} from "./workbench";

const runMs = 300_000;
let session: Session;
const runsFolder = () => path.join(session.workspace, ".reroute", "runs");
const run = (id: string) => path.join(runsFolder(), id);
const json = (...parts: string[]): unknown => JSON.parse(readFileSync(path.join(...parts), "utf8"));
const row = (text: string | RegExp) => treeRows(session.page, "Runs").filter({ hasText: text }).first();
const engines = () =>
  session.server.processes().filter(({ command, state }) => command.includes("dist/engine.js job") && state !== "Z");

beforeAll(async () => {
  session = await openWindow(
    "runs",
    async (workspace, { page }) => {
      sampleWorkspace(workspace);
      const first = await finishedRun(workspace, "2026-01-01_first", "reap", small);
      copyOfRun(first, "2026-01-02_second", "second of two", 1.5);
      copyOfRun(first, "2026-01-03_third", "third to delete", 2);
      mkdirSync(path.join(workspace, ".vscode"));
      const check = { type: "reroute", recipe: "reap.reroute.json", options: ["--dry-run"], label: "check reap" };
      // Without the list, VS Code asks first which matcher is to scan what is printed.
      const task = { ...check, problemMatcher: [] };
      writeFileSync(path.join(workspace, ".vscode/tasks.json"), JSON.stringify({ version: "2.0.0", tasks: [task] }));
      await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    },
    {
      // Terminals draw text that can be read; keys go to the workbench.
      settings: { "terminal.integrated.gpuAcceleration": "off", "editor.accessibilitySupport": "off" },
    },
  );
  await showContainer(session.page, "Reroute");
  await row("third to delete").waitFor();
}, runMs);
afterAll(() => session?.close());

const isAsked = (words: string) => async () => {
  const { input, message } = quickInput(session.page);
  if (!(await input.isVisible())) return false;
  const texts = [await input.getAttribute("placeholder"), await message.textContent({ timeout: 500 }).catch(() => "")];
  return texts.some((text) => text?.includes(words));
};
const prompt = (words: string) => until(isAsked(words));

/** Presses keys on a selected row of the tree. */
async function press(on: Locator, keys: string, leadsTo: () => Promise<boolean>): Promise<void> {
  await until(async () => {
    if (await leadsTo()) return true;
    await tryClick(on);
    await session.page.keyboard.press(keys);
    return until(leadsTo, 4000).then(
      () => true,
      () => false,
    );
  }, 120_000);
}

async function fill(text: string): Promise<void> {
  const { type, accept, input } = quickInput(session.page);
  await type(text);
  await accept();
  await input.waitFor({ state: "hidden" });
}

describe("a click on a finished run", () => {
  it("opens its report as a page of the editor", async () => {
    const { page } = session;
    await click(row("fine reap 12 of 32"));
    await page.getByRole("tab", { name: /Report: fine reap/ }).waitFor();
    const shows = async (frame: Frame) =>
      (await frame.textContent("body", { timeout: 1000 }).catch(() => ""))?.includes("Before calibration") === true;
    await until(async () => (await Promise.all(page.frames().map(shows))).includes(true));
    await session.screenshot("1-report");
  });
});

describe("names, tags and the filter", () => {
  it("F2 renames, and the open report's tab with it", async () => {
    await press(row("second of two"), "F2", isAsked("What should it be called?"));
    await fill("baseline");
    await row("baseline").waitFor();
    await session.page.getByRole("tab", { name: "Report: baseline" }).waitFor();
    expect(json(run("2026-01-02_second"), "labels.json")).toMatchObject({ name: "baseline" });
  });

  it("tags are shown, and searched by #word", async () => {
    await chooseFromRow(row("baseline"), "Tag Run...", isAsked("Tags, with commas"));
    await fill("paper, lr 3");
    await row("#paper").waitFor();
    expect(json(run("2026-01-02_second"), "labels.json")).toMatchObject({ name: "baseline", tags: ["paper", "lr 3"] });
    await press(row("baseline"), "Control+Alt+f", isAsked("Words in name"));
    await fill("#paper");
    await until(async () => (await treeRows(session.page, "Runs").count()) === 1);
    await session.screenshot("2-filtered");
    await runCommand(session.page, "Reroute: Filter Runs...");
    await prompt("Words in name");
    await fill("");
    await row("third to delete").waitFor();
  });
});

describe("a run taken along", () => {
  it(
    "is copied as a command line, which a shell takes",
    async () => {
      const { page, workspace } = session;
      const copied = () => page.evaluate<string>("navigator.clipboard.readText()");
      await chooseFromRow(row("fine reap 12 of 32"), "Copy as Command Line", async () =>
        (await copied().catch(() => "")).includes("cli.js"),
      );
      const line = await copied();
      expect(line).toContain("--output");
      const { stdout } = await promisify(execFile)("sh", ["-c", `${line} --dry-run`], { cwd: workspace });
      expect(stdout).toContain("Peak memory");
      expect(stdout).toContain("is reused");
    },
    runMs,
  );

  it("is duplicated as a recipe that can be edited, with an output that is not taken", async () => {
    const { page } = session;
    const tab = page.getByRole("tab", { name: /fine-reap-12-of-32.*\.reroute\.json/ });
    await chooseFromRow(row("fine reap 12 of 32"), "Duplicate and Edit Recipe", () => tab.isVisible());
    await page.locator(".view-lines", { hasText: "fine-reap-calibrated-2" }).waitFor();
    await session.screenshot("3-duplicate");
    await runCommand(page, "View: Revert and Close Editor");
  });
});

describe("runs beside each other", () => {
  it("are chosen in the tree and compared", async () => {
    const { page } = session;
    await click(row("baseline"));
    await until(async () => {
      await row("fine reap 12 of 32")
        .click({ modifiers: ["Control"], timeout: 5000 })
        .catch(() => undefined);
      return (await treeRows(page, "Runs").locator("xpath=self::*[@aria-selected='true']").count()) === 2;
    });
    await chooseFromRow(row("fine reap 12 of 32"), "Compare Runs...", isAsked("What of these 2 runs?"));
    await quickInput(page).choose("Divergence");
    await showEditor(page, "Divergence");
    const panel = await pageInState(page, "divergence");
    expect(await panel.textContent("body")).toContain("baseline");
    await session.screenshot("4-compared");
  });
});

describe("a recipe that is refused", () => {
  it(
    "measured on trained text is started all the same by a button",
    async () => {
      const { page, workspace } = session;
      cpSync(path.join(workspace, "texts/calibration.jsonl"), path.join(workspace, "texts/same.jsonl"));
      const file = writeRecipe(workspace, "same", "frequency", { ...small, epochs: 30 });
      writeFileSync(file, readFileSync(file, "utf8").replace("evaluation.jsonl", "same.jsonl"));
      await runCommand(page, "Reroute: Run Recipe");
      await quickInput(page).asksFor("Which recipe?");
      await quickInput(page).choose("same.reroute.json");
      await answerNotification(page, "(data/trained-on)", "Evaluate All the Same");
      await page.locator(".statusbar-item", { hasText: /profile|compress|calibrate/ }).waitFor();
      await activityBarItem(page, "Reroute").locator(".badge-content", { hasText: "1" }).waitFor();
      await session.screenshot("5-forced");
    },
    runMs,
  );

  it(
    "while it works, blocked wholly, checkpoints and panels answer all the same",
    async () => {
      const { page } = session;
      const [engine] = engines();
      process.kill(engine!.pid, "SIGSTOP");
      try {
        await runCommand(page, "View: Close All Editors");
        const checkpoints = treeRows(page, "Checkpoints");
        await runCommand(page, "Reroute: Refresh Checkpoints");
        await expand(checkpoints.filter({ has: page.getByText("fine", { exact: true }) }).first());
        await checkpoints.filter({ hasText: "Layer 0" }).first().waitFor();
        await runCommand(page, "Reroute: Open Routing");
        await quickInput(page).asksFor("Which run?");
        await quickInput(page).choose("baseline");
        await pageInState(page, "routing");
        await session.screenshot("6-beside-blocked-work");
      } finally {
        process.kill(engine!.pid, "SIGCONT");
      }
      await runCommand(page, "Reroute: Cancel Run");
      await row(/cancelled/).waitFor({ timeout: runMs / 2 });
    },
    runMs,
  );

  it("with a full output folder offers another folder and its recipe", async () => {
    const { page, workspace } = session;
    const file = writeRecipe(workspace, "taken", "frequency", small);
    writeFileSync(file, readFileSync(file, "utf8").replace("fine-taken-calibrated", "fine"));
    await runCommand(page, "Reroute: Run Recipe");
    await quickInput(page).asksFor("Which recipe?");
    await quickInput(page).choose("taken.reroute.json");
    const refused = await notification(page, "(output/not-empty)");
    await refused.getByText("Choose Folder...").waitFor();
    await session.screenshot("7-refused");
    await answerNotification(page, "(output/not-empty)", "Edit Recipe");
    await page.getByRole("tab", { name: /fine-taken.*\.reroute\.json/ }).waitFor();
    await runCommand(page, "View: Revert and Close Editor");
  });

  it("is checked by its key, on a page", async () => {
    const { page } = session;
    await runCommand(page, "View: Show Explorer");
    await click(explorerItem(page, "taken.reroute.json"), "dblclick");
    await page.locator(".view-lines", { hasText: "schemaVersion" }).first().waitFor();
    const tab = page.getByRole("tab", { name: "Check taken.reroute.json" });
    await until(async () => {
      await page.locator(".monaco-editor textarea, .monaco-editor .native-edit-context").first().focus();
      await page.keyboard.press("Control+Alt+Shift+Enter");
      return appears(tab, 10_000);
    });
    const { text, press: answer } = await summaryPage(page);
    expect(text).toContain("(output/not-empty)");
    await session.screenshot("8-check");
    await answer("Cancel");
    await tab.waitFor({ state: "hidden" });
  });
});

describe("a task", () => {
  it(
    "of tasks.json runs the recipe with the shipped command line, in a terminal",
    async () => {
      const { page } = session;
      await runCommand(page, "Tasks: Run Task");
      const picker = quickInput(page);
      await until(async () => (await picker.rows.count()) > 0);
      await picker.choose("check reap");
      await page.locator(".xterm-rows", { hasText: "would be refused: output/not-empty" }).waitFor({ timeout: runMs });
      await session.screenshot("9-task");
    },
    runMs,
  );
});

describe("a run that is deleted", () => {
  it("is named with its size first, and kept until that is answered", async () => {
    const { page } = session;
    await showContainer(page, "Reroute");
    const dialog = page.locator(".monaco-dialog-box");
    await press(row("third to delete"), "Delete", () => dialog.isVisible());
    const text = (await dialog.textContent())!;
    expect(text).toMatch(/Delete the run third to delete \([\d.]+ [KM]iB\)\?/);
    expect(existsSync(run("2026-01-03_third"))).toBe(true);
    await session.screenshot("10-delete");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    expect(existsSync(run("2026-01-03_third"))).toBe(true);
    expect(existsSync(run("2026-01-01_first"))).toBe(true);
  });
});

describe("the window", () => {
  it("leaves no error behind that nobody was told of", () => {
    expect(session.pageErrors).toEqual([]);
    expect(session.external).toEqual([]);
    expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
  });
});
