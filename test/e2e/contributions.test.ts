import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "./codeServer";
import { closeMenu, contextMenu, expand, explorerItem, openFromExplorer, treeRows } from "./explorer";
import { openWindow, type Session } from "./session";
import { syntheticRun } from "./syntheticRun";
import { closeQuickInput, pageInState, quickInput, runCommand, searchPalette, showContainer } from "./workbench";

let session: Session;

beforeAll(async () => {
  session = await openWindow(
    "contributions",
    (workspace) => {
      cpSync("media/sample", path.join(workspace, "sample"), { recursive: true });
      mkdirSync(path.join(workspace, "empty"));
      writeFileSync(path.join(workspace, "notes.txt"), "nothing to calibrate here\n");
      writeFileSync(path.join(workspace, "broken.reroute.json"), '{\n  "schemaVersion": 1,\n  "teacher": 3\n}\n');
      writeFileSync(path.join(workspace, "grid.compare.reroute.json"), "{}\n");
      writeFileSync(path.join(workspace, "routed.npy"), "");
    },
    { shows: "notes.txt" },
  );
});
afterAll(() => session?.close());

describe("what the extension adds", () => {
  it("starts no engine by itself", () => {
    expect(session.server.processes().filter(({ command }) => command.includes("dist/engine.js"))).toEqual([]);
  });

  it("offers in the palette only what can be done here", async () => {
    const offered = [
      "Calibrate Router",
      "Compress Experts",
      "Profile Routing",
      "Evaluate Checkpoint",
      "Compare Methods...",
      "Import Routing Trace...",
      "Run Recipe",
    ].map((title) => `Reroute: ${title}`);
    // A palette lists what was enabled when it opened, which in a window of a moment ago is not all yet.
    let labels: string[] = [];
    await until(async () => {
      labels = await searchPalette(session.page, "Reroute: ");
      // The list draws the rows in sight alone.
      const rows = session.page.locator(".quick-input-list .monaco-list-row .label-name");
      for (let screen = 1; screen < 4; screen++) {
        await session.page.keyboard.press("PageDown");
        labels.push(...(await rows.allTextContents()).map((label) => label.trim()));
      }
      await closeQuickInput(session.page);
      return offered.every((label) => labels.includes(label));
    }).catch(() => undefined);
    expect(labels).toEqual(expect.arrayContaining(offered));
    for (const title of ["Cancel Run", "Resume Run", "Open Report", "Open Routing"]) {
      expect(labels).not.toContain(`Reroute: ${title}`);
    }
  });

  const offers = ["Calibrate Router", "Run Recipe", "Compare Methods...", "Import Routing Trace..."];
  it.each([
    ["notes.txt", []],
    ["sample", ["Calibrate Router"]],
    ["broken.reroute.json", ["Run Recipe"]],
    ["grid.compare.reroute.json", ["Compare Methods..."]],
    ["routed.npy", ["Import Routing Trace..."]],
  ])("right-click on %s offers %j", async (name, offered) => {
    const labels = await contextMenu(session.page, name);
    await closeMenu(session.page);
    expect(offers.filter((title) => labels.includes(title))).toEqual(offered);
  });

  it("shows checkpoints, runs and the overview in the side panel, still without an engine for the runs", async () => {
    const { page } = session;
    await showContainer(page, "Reroute");
    await treeRows(page, "Checkpoints").filter({ hasText: "checkpoint" }).first().waitFor();
    await page.getByText("No run yet. A run profiles", { exact: false }).waitFor();
    const overview = await pageInState(page, "overview");
    expect(await overview.locator("vscode-button", { hasText: "Calibrate router" }).count()).toBe(1);
    await session.screenshot("side-panel");
  });

  it("offers calibration on checkpoints alone, once it knows them", async () => {
    const { page } = session;
    await runCommand(page, "View: Show Explorer");
    for (const name of ["empty", "sample"]) {
      expect(await contextMenu(page, name), name).not.toContain("Calibrate Router");
      await closeMenu(page);
    }
    await expand(explorerItem(page, "sample"));
    expect(await contextMenu(page, "checkpoint")).toContain("Calibrate Router");
    await closeMenu(page);
  });

  it("marks what is wrong in a recipe", async () => {
    const { page } = session;
    await runCommand(page, "View: Show Explorer");
    await openFromExplorer(page, "broken.reroute.json");
    await runCommand(page, "View: Toggle Problems");
    for (const problem of [/Missing property "data"/, /Missing property "output"/, /Expected "string".*Ln 3/])
      await page.locator(".markers-panel .monaco-list-row", { hasText: problem }).waitFor();
    await session.screenshot("recipe-problems");
  });

  async function openWalkthrough(): Promise<void> {
    await runCommand(session.page, "Welcome: Open Walkthrough...");
    await quickInput(session.page).choose("Calibrate a router");
  }

  it("leads through its first steps in a walkthrough with pictures", async () => {
    const { page } = session;
    await runCommand(page, "View: Close All Editors");
    await openWalkthrough();
    const steps = page.locator(".getting-started-step");
    await steps.filter({ hasText: "Open the sample checkpoint" }).first().waitFor();
    expect(await steps.count()).toBe(5);
    const drawn = `[...document.querySelectorAll(".getting-started-media img")].some(({ naturalWidth }) => naturalWidth > 100)`;
    await until(async () => (await page.evaluate(drawn)) === true);
    await session.screenshot("walkthrough");
  });

  it("has a step done by what was done, not by a question that was left with Esc", async () => {
    const { page, workspace } = session;
    const done = page.locator(".getting-started-step .codicon-getting-started-step-checked");
    const left = page.locator(".getting-started-step .codicon-getting-started-step-unchecked");
    for (const command of ["Profile Routing", "Compress Experts", "Calibrate Router"]) {
      await runCommand(page, `Reroute: ${command}`);
      await quickInput(page).asksFor("Which checkpoint?");
      await closeQuickInput(page);
    }
    // Escape also leaves the walkthrough for the page of all of them.
    await openWalkthrough();
    await left.first().waitFor();
    expect(await done.count()).toBe(0);
    // A run with a profile is what the second step stands for.
    await syntheticRun(path.join(workspace, ".reroute", "runs"), "2026-01-01_profile", 2, 8);
    await until(async () => (await done.count()) === 1);
    await session.screenshot("walkthrough-profiled");
  });

  it("logs no error, and asks no other host for anything", async () => {
    await until(() => session.extensionLog().includes("activated in"));
    expect(session.extensionLog()).not.toMatch(/\[error\]/);
    expect(session.pageErrors).toEqual([]);
    expect(session.external).toEqual([]);
  });
});
