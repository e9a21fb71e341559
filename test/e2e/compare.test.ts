/** A comparison from the first question to the Trade-off panel, stopped and continued; a routing trace of another program. */
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { comparisonFile, type ComparisonFile } from "../../src/protocol/compare";
import { decimal } from "../../webview/common/format";
import { until } from "./codeServer";
import { chooseFromMenu, expand, explorerItem, rowAction, treeRows } from "./explorer";
import { sampleWorkspace } from "./finishedRun";
import { answerNotification, notification } from "./notifications";
import { click } from "./pointer";
import { openWindow, type Session } from "./session";
import { pageInState, quickInput, runCommand, showContainer, summaryPage, tick } from "./workbench";

/** Cells of a few short sequences, on two cores that other work shares. */
const gridMs = 300_000;
let session: Session;
const runsFolder = () => path.join(session.workspace, ".reroute", "runs");
const gridFile = "grid.compare.reroute.json";
const trace = "expert_distribution_rank0_timestamp1744347750.372.csv";
/** Of a model with more experts than the sample has. */
const otherTrace = "expert_distribution_rank0_of-another-model.csv";

beforeAll(async () => {
  session = await openWindow(
    "compare",
    (workspace) => {
      sampleWorkspace(workspace);
      const grid = {
        schemaVersion: 1,
        teacher: "fine",
        data: {
          ...{ calibration: "texts/calibration.jsonl", evaluation: "texts/evaluation.jsonl" },
          ...{ sequences: 24, evaluationSequences: 8, sequenceLength: 64 },
        },
        grid: { methods: ["frequency", "mobe"], keep: [0.5] },
        // A method that refuses its options: the other one is worked all the same.
        methodOptions: { mobe: { magic: 1 } },
      };
      writeFileSync(path.join(workspace, gridFile), JSON.stringify(grid, null, 2));
      cpSync(path.join("test/fixtures/traces", trace), path.join(workspace, trace));
      writeFileSync(path.join(workspace, otherTrace), "layer_id,expert_id,count\n0,3,5\n0,40,2\n");
    },
    { shows: gridFile },
  );
});
afterAll(() => session?.close());

const readComparison = (directory: string): ComparisonFile =>
  comparisonFile.parse(JSON.parse(readFileSync(path.join(directory, "comparison.json"), "utf8")));
const wizardFolder = () =>
  path.join(
    runsFolder(),
    readdirSync(runsFolder()).find((name) => name.endsWith("fine-compared"))!,
  );
const row = (text: string | RegExp) => treeRows(session.page, "Runs").filter({ hasText: text }).first();
const work = () => session.page.locator(".statusbar-item", { hasText: /cell \d of 4/ });
const comparing = () => work().waitFor();

describe("a comparison asked for by questions", () => {
  it(
    "asks for methods, ratios, texts, and sums up every cell before anything starts",
    async () => {
      const { page } = session;
      await showContainer(page, "Reroute");
      const wizard = quickInput(page);
      await runCommand(page, "Reroute: Compare Methods...");
      await wizard.asksFor("Which comparison?");
      await wizard.choose("New comparison...");
      await wizard.asksFor("Which checkpoint?");
      await wizard.choose("fine");
      await wizard.asks("Compare methods on fine (1/7)", "Which methods");
      await tick(page, ["reap", "hc-smoe"]);
      await session.screenshot("1-methods");
      await wizard.accept();
      await wizard.asks("(2/7)", "at which ratios");
      await tick(page, ["Keep 20 of 32 experts", "Keep 12 of 32 experts"]);
      await session.screenshot("2-ratios");
      await wizard.accept();
      await wizard.asks("(3/7)", "What should each cell do");
      await wizard.choose("Compress and calibrate");
      await wizard.asks("(4/7)", "Which text");
      await wizard.choose("calibration.jsonl");
      await wizard.asks("(5/7)", "Which other text");
      await wizard.rows.first().waitFor();
      expect((await wizard.rows.allTextContents()).join()).not.toContain("calibration.jsonl");
      await wizard.choose("evaluation.jsonl");
      await wizard.asks("(6/7)", "How much of the text");
      await wizard.choose("Another amount");
      await wizard.asks("(6/7)", "Sequences x tokens");
      await wizard.type("96 x 64");
      await wizard.accept();
      const { text, press } = await summaryPage(page);
      expect(text).toContain("4 cells: 2 methods, 2 ratios, before and after Router KD");
      for (const label of ["Time", "Memory", "Disk", "Folder", "reap-0.625"]) expect(text).toContain(label);
      expect(existsSync(runsFolder())).toBe(false);
      await session.screenshot("3-summary");
      await press("Start");
    },
    gridMs,
  );

  it(
    "shows cells, progress and time left; is cancelled and resumed from its row in the Runs tree",
    async () => {
      const { page } = session;
      await comparing();
      await page.locator(".notification-toast", { hasText: /cell \d of 4/ }).waitFor();
      await row("fine compared").waitFor();
      await session.screenshot("4-live");
      await runCommand(page, "Reroute: Cancel Run");
      await row(/interrupted · \d of 4 cells/).waitFor({ timeout: gridMs });
      await work().waitFor({ state: "hidden" });
      await rowAction(row("fine compared"), "Resume Run", work());
    },
    gridMs,
  );

  it(
    "continues from the command palette after the death of the engine",
    async () => {
      const { page, server } = session;
      const engines = server
        .processes()
        .filter(({ command, state }) => command.includes("dist/engine.js job") && state !== "Z");
      expect(engines).toHaveLength(1);
      process.kill(engines[0]!.pid, "SIGKILL");
      await notification(page, "The engine process ended while it worked");
      await runCommand(page, "Reroute: Resume Run");
      await comparing();
    },
    gridMs,
  );

  it(
    "ends in the Trade-off panel of its cells, with every figure of comparison.json",
    async () => {
      const { page } = session;
      const states = () => readComparison(wizardFolder()).cells.map(({ state }) => state);
      await until(() => states().every((state) => state === "done"), gridMs);
      await answerNotification(page, "4 cells compared. Nearest to the teacher", "Open Trade-off");
      const { cells } = readComparison(wizardFolder());
      expect(cells).toHaveLength(4);
      const panel = await pageInState(page, "tradeOff");
      expect(await panel.textContent(".page-header")).toContain("fine compared");
      const table = (await panel.locator("main").textContent())!;
      for (const { before, after } of cells)
        for (const value of [before!, after!]) expect(table).toContain(decimal(value.klToTeacher!.mean, 5));
      await session.screenshot("5-trade-off");
      await row(/done · 4 of 4 cells/).waitFor();
      await expand(row("fine compared"));
      await row("hc-smoe at 0.375").waitFor();
      await session.screenshot("6-tree");
    },
    gridMs,
  );
});

describe("a comparison that was resumed after its engine had died", () => {
  it("is not begun again by the message of then", async () => {
    const { page } = session;
    await answerNotification(page, "The engine process ended while it worked", "Resume");
    await notification(page, "4 cells compared. Nearest to the teacher");
    expect(await work().count()).toBe(0);
  });
});

describe("a comparison file", () => {
  it(
    "is started from the explorer; a cell that is refused is named with its code",
    async () => {
      const { page } = session;
      await runCommand(page, "View: Show Explorer");
      const asked = page.getByRole("tab", { name: "Compare methods: grid" });
      await chooseFromMenu(page, gridFile, "Compare Methods...", asked);
      const { text, press } = await summaryPage(page);
      expect(text).toContain("mobe-0.5 would be refused");
      expect(text).toContain("(arguments/invalid)");
      await press("Start");
      const states = () => readComparison(path.join(runsFolder(), "grid")).cells.map(({ state }) => state);
      await until(() => existsSync(path.join(runsFolder(), "grid", "comparison.json")));
      await until(() => states().every((state) => state === "done" || state === "failed"), gridMs);
      const told = await notification(page, "1 of 2 cells failed, the first is mobe-0.5");
      expect(await told.textContent()).toContain("(arguments/invalid)");
      expect(states()).toEqual(["done", "failed"]);
      await session.screenshot("7-failed-cell");
    },
    gridMs,
  );
});

describe("a routing trace", () => {
  it("is imported by right-click and shown in the Routing panel", async () => {
    const { page } = session;
    await runCommand(page, "View: Close All Editors");
    await runCommand(page, "View: Show Explorer");
    const wizard = quickInput(page);
    await explorerItem(page, trace).waitFor();
    const without = wizard.rows.filter({ hasText: "Without a checkpoint" });
    await chooseFromMenu(page, trace, "Import Routing Trace...", without);
    await click(without);
    await wizard.message.filter({ hasText: "Experts that a token selects" }).waitFor();
    await wizard.type("none");
    await wizard.message.filter({ hasText: "whole number" }).waitFor();
    await wizard.type("2");
    await wizard.accept();
    const panel = await pageInState(page, "routing");
    expect(await panel.textContent(".page-header")).toContain("Trace expert_distribution");
    await notification(page, "its checkpoint would tell");
    await session.screenshot("8-trace");
  });

  it("of another model is refused with its code, and nothing is left behind", async () => {
    const { page } = session;
    const before = readdirSync(runsFolder()).sort();
    await runCommand(page, "Reroute: Import Routing Trace...");
    const wizard = quickInput(page);
    await wizard.asksFor("Which routing trace?");
    await wizard.choose(otherTrace);
    await wizard.asksFor("Which checkpoint");
    await wizard.choose("fine");
    await notification(page, "(trace/invalid)");
    expect(readdirSync(runsFolder()).sort()).toEqual(before);
  });

  it("leaves no error behind that nobody was told of", () => {
    expect(session.pageErrors).toEqual([]);
    expect(session.external).toEqual([]);
    expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
  });
});
