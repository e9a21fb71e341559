/** What a finished run leads to: its report handed on, links to it, its plan edited and applied, the run again, the trash. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import type { Frame } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EvaluationFile } from "../../src/protocol/evaluation";
import type { PruningPlan } from "../../src/protocol/plan";
import { seriousFindings } from "../support/axe";
import { until } from "./codeServer";
import { chooseFromRow, treeRows } from "./explorer";
import { copyOfRun, finishedRun, sampleWorkspace, small } from "./finishedRun";
import { notification } from "./notifications";
import { click } from "./pointer";
import { openWindow, type Session } from "./session";
import { acceptSave, pageInState, quickInput, runCommand, showContainer, summaryPage } from "./workbench";

const runMs = 300_000;
const calibrated = "2026-01-01_first";
const deleted = "2026-01-02_second";
const name = "fine reap 12 of 32";
let session: Session;
const run = (id: string) => path.join(session.workspace, ".reroute", "runs", id);
const row = (text: string | RegExp) => treeRows(session.page, "Runs").filter({ hasText: text }).first();
const tab = (title: string | RegExp) => session.page.getByRole("tab", { name: title });
const isShown = (title: string | RegExp) => () => tab(title).isVisible();
const runIds = () => readdirSync(path.dirname(run("any")));
const evaluationOf = (id: string) =>
  JSON.parse(readFileSync(path.join(run(id), "evaluation.json"), "utf8")) as EvaluationFile;

beforeAll(async () => {
  session = await openWindow("afterwards", async (workspace) => {
    sampleWorkspace(workspace);
    copyOfRun(await finishedRun(workspace, calibrated, "reap", small), deleted, "to delete", 1.5);
  });
  await showContainer(session.page, "Reroute");
  await row("to delete").waitFor();
}, runMs);
afterAll(() => session?.close());

describe("Save Report As", () => {
  it("in a run's menu writes the report as one file, the same bytes", async () => {
    const { page, workspace } = session;
    const { title } = quickInput(page);
    await chooseFromRow(row(name), "Save Report As...", () => title.filter({ hasText: "Save" }).isVisible());
    const file = await acceptSave(page, "html");
    expect(file).toBe(path.join(workspace, "fine reap 12 of 32.html"));
    await until(() => existsSync(file));
    const report = readFileSync(path.join(run(calibrated), "report.html"), "utf8");
    await until(() => readFileSync(file, "utf8") === report);
    // It needs nothing else: nothing is loaded from beside it, nor from the network.
    expect(report).not.toMatch(/<(link|script|img|iframe)\b|@import|url\(/i);
  });
});

describe("a link", () => {
  const open = async (query: string): Promise<void> => {
    const { page } = session;
    await runCommand(page, "Developer: Open URL");
    const { message, input, type, accept } = quickInput(page);
    await message.filter({ hasText: "URL" }).waitFor();
    await type(`code-oss://reroute.reroute/open?${query}`);
    await accept();
    await input.waitFor({ state: "hidden" });
    // VS Code asks for every extension, each time.
    await click(page.locator(".monaco-dialog-box .monaco-button", { hasText: /^Open$/ }));
  };

  it("to a run opens its report", async () => {
    await open(`run=${encodeURIComponent(run(calibrated))}`);
    await tab(`Report: ${name}`).waitFor();
    await session.screenshot("1-link");
  });

  it("to a checkpoint shows it in the tree", async () => {
    const { page, workspace } = session;
    await open(`checkpoint=${encodeURIComponent(path.join(workspace, "fine"))}`);
    const selected = treeRows(page, "Checkpoints").locator("xpath=self::*[@aria-selected='true']");
    await selected.filter({ hasText: /^fine$/ }).waitFor();
    await treeRows(page, "Checkpoints").filter({ hasText: "Layer 0" }).first().waitFor();
  });

  it("to a file opens it, but none outside the workspace", async () => {
    const { page, workspace } = session;
    await open(`file=${encodeURIComponent(path.join(workspace, "reap.reroute.json"))}`);
    await tab("reap.reroute.json").waitFor();
    await open(`file=${encodeURIComponent(path.join(workspace, "../profile/a.reroute.json"))}`);
    await notification(page, "The link names nothing of this workspace");
    expect(await tab("a.reroute.json").count()).toBe(0);
    await runCommand(page, "Notifications: Clear All Notifications");
    await runCommand(page, "View: Close All Editors");
  });
});

describe("a plan's page", () => {
  const copy = "2026-01-01-first.compression-plan.json";
  const kept = (file: string): number[][] =>
    Object.values((JSON.parse(readFileSync(file, "utf8")) as PruningPlan).layers).map((layer) => layer.kept);
  const copyFile = () => path.join(session.workspace, copy);
  const original = () => kept(path.join(run(calibrated), "compression-plan.json"));
  const page = () => pageInState(session.page, "plan");
  const fact = async (frame: Frame, label: string) => {
    const text = await frame.textContent("[data-sizes]");
    return text!.slice(text!.indexOf(label));
  };
  const button = (frame: Frame, label: string) => frame.locator("vscode-button", { hasText: label });
  const isDirty = () => session.page.locator(".tab.dirty", { hasText: copy }).isVisible();

  it("opens on a run, where it stays as it is, and is edited as a copy", async () => {
    await chooseFromRow(row(name), "Open Plan", isShown("compression-plan.json"));
    const frame = await page();
    await frame.locator(".notice", { hasText: "so it stays as it is; edit a copy" }).waitFor();
    expect(await fact(frame, "Parameters")).toMatch(/1\.9\d? M of 4\.1\d? M/);
    await click(button(frame, "Edit a copy"));
    await tab(copy).waitFor();
    await runCommand(session.page, "View: Close Other Editors in Group");
    expect(kept(copyFile())).toEqual(original());
  });

  it("drops and keeps by a click, which Undo takes back and Redo makes again", async () => {
    const frame = await page();
    await until(async () => (await frame.locator("[data-amounts] input:not(:disabled)").count()) > 0);
    const plot = frame.locator("[data-figure=plan] .plot-frame");
    const { width, height } = (await plot.boundingBox())!;
    await plot.click({ position: { x: width * 0.5, y: height * 0.4 } });
    await until(isDirty);
    const [, layer, expert] = /Layer (\d+), expert (\d+)/.exec((await frame.textContent("[data-cell]"))!)!;
    await session.screenshot("2-plan");
    await session.page.keyboard.press("Control+z");
    await until(async () => !(await isDirty()));
    await session.page.keyboard.press("Control+Shift+z");
    await until(isDirty);
    await session.page.keyboard.press("Control+s");
    await until(async () => !(await isDirty()));
    const [before, after] = [original(), kept(copyFile())];
    const [l, e] = [Number(layer), Number(expert)];
    expect(after[l]!.includes(e)).toBe(!before[l]!.includes(e));
    // Another expert of the layer has changed places with it; other layers are as they were.
    expect(after[l]).toHaveLength(before[l]!.length);
    expect(after.filter((_, at) => at !== l)).toEqual(before.filter((_, at) => at !== l));
  });

  it("says and shows what it decides otherwise than the run's plan", async () => {
    const frame = await page();
    await click(button(frame, "Compare with a plan…"));
    await quickInput(session.page).asksFor("Compare with which plan?");
    await quickInput(session.page).choose(name);
    const note = frame.locator("[data-figure=plan] .figure-note");
    await note.filter({ hasText: "2 cells in 1 layers differ from 2026-01-01_first." }).waitFor();
    await session.screenshot("3-difference");
    expect(await seriousFindings(frame)).toEqual([]);
    await click(button(frame, "Stop comparing"));
    await note.filter({ hasText: "differ" }).waitFor({ state: "hidden" });
  });

  it("sets what stays of every layer by a slider that is dragged", async () => {
    const frame = await page();
    const slider = frame.locator("[data-amounts] input").first();
    await slider.scrollIntoViewIfNeeded();
    const { x, y, width, height } = (await slider.boundingBox())!;
    const size = await fact(frame, "Size");
    const { mouse } = session.page;
    // 12 of 32 is a third of the way.
    await mouse.move(x + (width * 11) / 31, y + height / 2);
    await mouse.down();
    await mouse.move(x + width * 0.5, y + height / 2, { steps: 5 });
    await mouse.move(x + width * 0.7, y + height / 2, { steps: 5 });
    await mouse.up();
    await until(isDirty);
    await until(async () => (await fact(frame, "Size")) !== size);
    await session.page.keyboard.press("Control+s");
    await until(async () => !(await isDirty()));
    const counts = new Set(kept(copyFile()).map(({ length }) => length));
    expect(counts.size).toBe(1);
    const [count] = counts;
    expect(count).toBeGreaterThan(18);
    expect(count).toBeLessThan(28);
    expect(await slider.getAttribute("aria-valuetext")).toBe(`${count} of 32 experts`);
    await session.screenshot("4-dragged");
  });

  it(
    "is applied after the pre-flight: the run compresses as it says",
    async () => {
      const before = runIds();
      await click(button(await page(), "Compress with this plan…"));
      const summary = await summaryPage(session.page);
      expect(summary.text).toContain(copy);
      await session.screenshot("5-apply");
      await summary.press("Start");
      await until(() => runIds().length > before.length, runMs);
      const made = runIds().find((id) => !before.includes(id))!;
      await until(() => existsSync(path.join(run(made), "report.html")), runMs);
      expect(kept(path.join(run(made), "compression-plan.json"))).toEqual(kept(copyFile()));
      expect(evaluationOf(made).after!.cost.bytes).toBeGreaterThan(evaluationOf(calibrated).after!.cost.bytes);
    },
    runMs,
  );
});

describe("Run Again", () => {
  it(
    "does the run anew in a folder of its own, to the same numbers",
    async () => {
      const before = runIds();
      // The first run: above it stands the one that the plan was applied in.
      const first = treeRows(session.page, "Runs").filter({ hasText: name }).last();
      await chooseFromRow(first, "Run Again", async () => runIds().length > before.length);
      const again = runIds().find((id) => !before.includes(id))!;
      await until(() => existsSync(path.join(run(again), "report.html")), runMs);
      for (const stage of ["teacher", "before", "after"] as const) {
        const [first, second] = [evaluationOf(calibrated)[stage]!, evaluationOf(again)[stage]!];
        expect([second.nllPerToken, second.klToTeacher]).toEqual([first.nllPerToken, first.klToTeacher]);
      }
      await until(() => existsSync(path.join(session.workspace, "fine-reap-calibrated-2", "model.safetensors")));
      expect(existsSync(path.join(session.workspace, "fine-reap-calibrated", "model.safetensors"))).toBe(true);
    },
    runMs,
  );
});

describe("Move to Trash", () => {
  it("takes the run alone, and asks again where this machine has no trash", async () => {
    const { page, workspace } = session;
    const dialog = page.locator(".monaco-dialog-box");
    await chooseFromRow(row("to delete"), "Delete Run...", () => dialog.isVisible());
    await dialog.getByRole("button", { name: "Move to Trash", exact: true }).click();
    // A server has no trash: nothing is gone before that is said.
    await dialog.filter({ hasText: "This machine has no trash" }).waitFor();
    expect(existsSync(run(deleted))).toBe(true);
    await session.screenshot("6-no-trash");
    await dialog.getByRole("button", { name: "Delete Permanently" }).click();
    await row("to delete").waitFor({ state: "detached" });
    expect(existsSync(run(deleted))).toBe(false);
    expect(existsSync(run(calibrated))).toBe(true);
    expect(existsSync(path.join(workspace, "fine-reap-calibrated"))).toBe(true);
  });
});

describe("the window", () => {
  it("leaves no error behind that nobody was told of", () => {
    expect(session.pageErrors).toEqual([]);
    expect(session.external).toEqual([]);
    expect(session.extensionLog()).not.toMatch(/content policy|ignored a message|\[error\]/);
  });
});
