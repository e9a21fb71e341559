import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "./codeServer";
import { openSession, type Session } from "./session";
import { activityBarItem, contextMenu, openFolder, runCommand, searchPalette, treeRows, webview } from "./workbench";

let session: Session;

beforeAll(async () => {
  session = await openSession("contributions");
  const { workspace, page, server } = session;
  cpSync("media/sample", path.join(workspace, "sample"), { recursive: true });
  mkdirSync(path.join(workspace, "empty"));
  writeFileSync(path.join(workspace, "notes.txt"), "nothing to calibrate here\n");
  writeFileSync(path.join(workspace, "broken.reroute.json"), '{\n  "schemaVersion": 1,\n  "teacher": 3\n}\n');
  await openFolder(page, server.url, workspace, "notes.txt");
  await activityBarItem(page, "Reroute").waitFor();
});
afterAll(() => session?.close());

describe("what the extension adds", () => {
  it("starts no engine by itself", () => {
    expect(session.server.processes().filter(({ command }) => command.includes("dist/engine.js"))).toEqual([]);
  });

  it("offers in the palette only what can be done here", async () => {
    const labels = await searchPalette(session.page, "Reroute: ");
    await session.page.keyboard.press("Escape");
    for (const title of [
      "Calibrate Router",
      "Compress Experts",
      "Profile Routing",
      "Evaluate Checkpoint",
      "Run Recipe",
    ]) {
      expect(labels).toContain(`Reroute: ${title}`);
    }
    for (const title of ["Cancel Run", "Resume Run", "Open Report", "Open Routing"]) {
      expect(labels).not.toContain(`Reroute: ${title}`);
    }
  });

  it.each([
    ["notes.txt", false],
    ["sample", true],
    ["broken.reroute.json", false],
  ])("right-click on %s offers Calibrate Router: %s", async (name, offered) => {
    const labels = await contextMenu(session.page, name);
    await session.page.keyboard.press("Escape");
    expect(labels.includes("Calibrate Router")).toBe(offered);
  });

  it("shows checkpoints, runs and the overview in the side panel, still without an engine for the runs", async () => {
    const { page } = session;
    await activityBarItem(page, "Reroute").click();
    await treeRows(page, "Checkpoints").filter({ hasText: "checkpoint" }).first().waitFor();
    await webview(page, "overview");
    await session.screenshot("side-panel");
  });

  it("marks what is wrong in a recipe", async () => {
    const { page } = session;
    await page.keyboard.press("Control+p");
    const input = page.locator(".quick-input-widget input.input");
    await input.waitFor();
    await input.fill("broken.reroute.json");
    await page.locator(".quick-input-list .monaco-list-row", { hasText: "broken.reroute.json" }).first().click();
    await runCommand(page, "View: Toggle Problems");
    await page.locator(".markers-panel .monaco-list-row", { hasText: "teacher" }).first().waitFor();
    await session.screenshot("recipe-problems");
  });

  it("activates in under 100 ms and logs no error", async () => {
    await until(() => session.extensionLog().includes("activated in"));
    const milliseconds = Number(/activated in ([\d.]+) ms/.exec(session.extensionLog())?.[1]);
    expect(milliseconds).toBeLessThan(100);
    expect(session.pageErrors).toEqual([]);
    expect(session.external).toEqual([]);
  });
});
