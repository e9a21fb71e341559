/** Pictures for the README and the walkthrough: `npm run screenshots`. Not part of the tests. */
import { mkdirSync } from "node:fs";
import path from "node:path";
import type { Frame, Locator } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "./codeServer";
import { expand, treeRows } from "./explorer";
import { finishedComparison, finishedRun, sampleWorkspace, whole, writeRecipe } from "./finishedRun";
import { openSession, wholeScreen, type Session } from "./session";
import { changeTheme, openFolder, pageInState, quickInput, runCommand, showContainer } from "./workbench";

const wanted = process.env["REROUTE_SCREENSHOTS"] === "1";
const minutes = 60_000;
let session: Session;

/** A picture of the whole window for the README. */
const readme = (name: string) =>
  session.page.screenshot({ path: path.join("docs/images", `${name}.png`), scale: "css" });
/** A picture of one element for a step of the walkthrough, two pixels for one: VS Code shows it about as wide as it is here. */
const step = (name: string, theme: string, element: Locator) =>
  element.screenshot({ path: path.join("media/walkthrough", `${name}-${theme}.png`) });

async function choose(placeholder: string, label: string): Promise<void> {
  const picker = quickInput(session.page);
  await picker.asksFor(placeholder);
  await picker.choose(label);
}

async function open(title: string, view: string): Promise<Frame> {
  await runCommand(session.page, `Reroute: Open ${title}`);
  if (view !== "tradeOff") await choose("Which run?", "fine reap");
  const frame = await pageInState(session.page, view);
  await until(async () => (await frame.locator(".plot-frame canvas").count()) > 0);
  return frame;
}

describe.runIf(wanted)("pictures", () => {
  beforeAll(async () => {
    session = await openSession("pictures", { scale: 2, settings: { "explorer.compactFolders": false } });
    const { workspace, page, server } = session;
    mkdirSync("docs/images", { recursive: true });
    sampleWorkspace(workspace);
    // Opened before the runs are made: a server without a window would end itself meanwhile.
    await openFolder(page, server.url, workspace, "fine");
    await finishedComparison(workspace, "grid");
    await finishedRun(workspace, "2026-01-01_00-00-00_fine-reap", "reap", whole);
    await finishedRun(workspace, "2026-01-02_00-00-00_fine-frequency", "frequency", { ...whole, epochs: 1 });
    writeRecipe(workspace, "weighted", "weighted-frequency", whole);
    await showContainer(page, "Reroute");
    const rows = treeRows(page, "Checkpoints");
    await expand(rows.filter({ has: page.getByText("fine", { exact: true }) }).first());
    await expand(rows.filter({ hasText: "Layer 0" }).first());
    await expand(rows.filter({ hasText: "MoE block" }).first());
    await pageInState(page, "overview");
  }, 20 * minutes);
  afterAll(() => session?.close());

  it.each([
    ["Routing", "routing"],
    ["Similarity", "similarity"],
    ["Divergence", "divergence"],
    ["Router KD", "calibration"],
  ])("%s", async (title, view) => {
    await open(title, view);
    await readme(view);
  });

  it("the walkthrough's steps, dark and light", async () => {
    const { page } = session;
    await page.setViewportSize({ width: 1040, height: 960 });
    for (const [theme, label, bodyClass] of [
      ["light", "Light Modern", "vscode-light"],
      ["dark", "Dark Modern", "vscode-dark"],
    ] as const) {
      await changeTheme(page, label);
      const overview = await pageInState(page, "overview");
      await overview.locator(`body.${bodyClass}`).waitFor();
      const routing = await open("Routing", "routing");
      await step("profile", theme, routing.locator("[data-figure=utilisation]"));
      const similarity = await open("Similarity", "similarity");
      await step("compress", theme, similarity.locator("[data-figure=similarity]"));
      const calibration = await open("Router KD", "calibration");
      await step("calibrate", theme, calibration.locator("[data-figure=loss]"));
      const tradeOff = await open("Trade-off", "tradeOff");
      await step("verdict", theme, tradeOff.locator("[data-figure=tradeOff]"));
      await step(
        "sample",
        theme,
        page.locator(".pane", { has: page.locator(`.pane-header[aria-label^="Checkpoints"]`) }),
      );
    }
    await page.setViewportSize(wholeScreen);
  });

  it("the side panel with a run under way", async () => {
    const { page } = session;
    await runCommand(page, "View: Close All Editors");
    await runCommand(page, "Reroute: Run Recipe");
    await choose("Which recipe?", "weighted.reroute.json");
    await page.locator(".statusbar-item", { hasText: /calibrate/ }).waitFor({ timeout: 10 * minutes });
    await runCommand(page, "Reroute: Open Router KD");
    await choose("Which run?", "fine weighted");
    const frame = await pageInState(page, "calibration");
    await until(async () => {
      const updates = /Updates(\d+) of/.exec((await frame.locator(".facts").textContent()) ?? "")?.[1];
      return Number(updates) >= 60;
    }, 10 * minutes);
    await readme("overview");
    await runCommand(page, "Reroute: Cancel Run");
    expect(session.pageErrors).toEqual([]);
  });
});
