/** Restricted Mode: checkpoints and finished runs can be looked at, nothing is run or written, and it is said why. */
import { cpSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { until } from "./codeServer";
import { closeMenu, contextMenu, expand, treeRows } from "./explorer";
import { sampleWorkspace } from "./finishedRun";
import { click } from "./pointer";
import { openWindow, type Session } from "./session";
import { syntheticRun } from "./syntheticRun";
import { closeQuickInput, pageInState, runCommand, searchPalette, showContainer } from "./workbench";

let session: Session;
let before: string;

beforeAll(async () => {
  session = await openWindow(
    "restricted",
    async (workspace) => {
      sampleWorkspace(workspace);
      cpSync("media/sample/sample.reroute.json", path.join(workspace, "sample.reroute.json"));
      writeFileSync(path.join(workspace, "grid.compare.reroute.json"), "{}");
      writeFileSync(path.join(workspace, "trace.npy"), "");
      const runs = path.join(workspace, ".reroute", "runs");
      const finished = await syntheticRun(runs, "2026-01-01_finished", 4, 16);
      // A run that another window left unfinished: it is not offered for resume here.
      const unfinished = path.join(runs, "2026-01-02_unfinished");
      cpSync(finished, unfinished, { recursive: true });
      before = listing(workspace);
    },
    {
      workspaceTrust: true,
      settings: { "security.workspace.trust.startupPrompt": "never" },
      keybindings: [{ key: "ctrl+alt+9", command: "reroute.openSampleCheckpoint" }],
    },
  );
});
afterAll(() => session?.close());

/** Every file with size and time of change. */
function listing(folder: string): string {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const { size, mtimeMs } = statSync(path.join(folder, name));
      return `${name} ${size} ${mtimeMs}`;
    })
    .join("\n");
}

it("offers neither in the palette nor by right-click what runs or writes", async () => {
  const { page } = session;
  const labels = await searchPalette(page, "Reroute: ");
  // The list draws the rows in sight alone.
  for (let screen = 1; screen < 4; screen++) {
    await page.keyboard.press("PageDown");
    labels.push(...(await page.locator(".quick-input-list .monaco-list-row .label-name").allTextContents()));
  }
  await closeQuickInput(page);
  for (const title of [
    "Calibrate Router",
    "Compress Experts",
    "Profile Routing",
    "Evaluate Checkpoint",
    "Compare Two Checkpoints",
    "Compare Methods...",
    "Import Routing Trace...",
    "New Recipe...",
    "Run Recipe",
    "Check Recipe",
    "Resume Run",
    "Run Again",
    "Rename Run...",
    "Tag Run...",
    "Delete Run...",
    "Duplicate and Edit Recipe",
    "Save Report As...",
    "Export Data",
    "Open Sample Checkpoint",
  ])
    expect(labels).not.toContain(`Reroute: ${title}`);
  expect(await contextMenu(page, "fine")).not.toContain("Calibrate Router");
  await closeMenu(page);
  for (const file of ["sample.reroute.json", "grid.compare.reroute.json", "trace.npy"]) {
    const offered = await contextMenu(page, file);
    for (const title of ["Run Recipe", "Compare Methods...", "Import Routing Trace..."])
      expect(offered, file).not.toContain(title);
    await closeMenu(page);
  }
});

it("says in the side panel why, and offers no button that would run something", async () => {
  const { page } = session;
  await showContainer(page, "Reroute");
  await page.getByText("Restricted Mode: checkpoints can be inspected", { exact: false }).first().waitFor();
  const overview = await pageInState(page, "overview");
  expect(await overview.textContent("main")).toContain("Restricted Mode");
  const buttons = (await overview.locator("vscode-button").allTextContents()).map((text) => text.trim());
  expect(buttons).not.toContain("Calibrate router…");
  expect(buttons).not.toContain("Open sample");
  expect(buttons).not.toContain("Resume");
  await session.screenshot("side-panel");
});

it("inspects a checkpoint and shows a run's panel", async () => {
  const { page } = session;
  const rows = treeRows(page, "Checkpoints");
  await expand(rows.filter({ hasText: "fine" }).first());
  await expand(rows.filter({ hasText: "Layer 0" }).first());
  await rows.filter({ hasText: "MoE block" }).first().waitFor();
  await runCommand(page, "Reroute: Open Trade-off");
  const tradeOff = await pageInState(page, "tradeOff");
  await click(tradeOff.locator('[data-figure=tradeOff] button:text-is("CSV")'));
  await tradeOff.locator(".notice.warning", { hasText: "Nothing is written in Restricted Mode" }).waitFor();
  await session.screenshot("panel");
});

it("refuses, with the reason, what a page or a key binding asks for all the same", async () => {
  const { page } = session;
  const toast = page.locator(".notification-toast", { hasText: "Nothing is run or written in Restricted Mode" });
  await until(async () => {
    await page.keyboard.press("Control+Alt+9");
    return toast.first().isVisible();
  });
  await toast.first().getByText("Manage Workspace Trust").waitFor();
  await session.screenshot("refused");
});

it("has written nothing into the workspace, and offered no unfinished run", async () => {
  expect(listing(session.workspace)).toBe(before);
  expect(await session.page.locator(".notification-toast", { hasText: "was not finished" }).count()).toBe(0);
  expect(readFileSync(path.join(session.workspace, "sample.reroute.json"), "utf8")).toContain("schemaVersion");
  expect(session.pageErrors).toEqual([]);
});
