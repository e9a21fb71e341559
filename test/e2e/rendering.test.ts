/** How fast the pages draw inside VS Code's browser, from run folders of large models; and activation. */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import type { Frame } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { hoverTimes } from "../hoverTimes";
import { busyReason, slowdown, tooBusy } from "../machineSpeed";
import { until } from "./codeServer";
import { treeRows } from "./explorer";
import { openWindow, type Session } from "./session";
import { syntheticRun } from "./syntheticRun";
import { openFolder, pageInState, quickInput, runCommand, showContainer } from "./workbench";

let session: Session;
const runs = [
  ["2026-01-01_large", 48, 128],
  ["2026-01-02_wide", 1, 256],
] as const;
const figures: string[] = [];

beforeAll(async () => {
  const fill = async (workspace: string) => {
    writeFileSync(path.join(workspace, "notes.txt"), "a workspace of run folders\n");
    for (const [id, layers, experts] of runs)
      await syntheticRun(path.join(workspace, ".reroute", "runs"), id, layers, experts);
  };
  const settings = { "workbench.editor.useModal": "off" };
  session = await openWindow("rendering", fill, { shows: "notes.txt", settings });
});
afterAll(() => {
  if (!session) return;
  writeFileSync(path.join(session.out, "times.txt"), `${figures.join("\n")}\n`);
  return session.close();
});

it("activates in under 100 ms, the bundle's loading included", async ({ skip }) => {
  const { page, server, workspace } = session;
  // Its view is what activates the extension; in the windows that follow, the workspace's runs do.
  await showContainer(page, "Reroute");
  // Other work on the machine only adds time: the best of some windows, each against the machine as it was then, is what
  // activation itself needs.
  let activations: number[] = [];
  const duringWindows: number[] = [];
  for (let window = 1; window <= 5 && !(Math.min(...activations) < 50); window++) {
    if (window > 1) await openFolder(page, server.url, workspace, null);
    await until(() => (activations = activationTimes()).length >= window);
    duringWindows.push(slowdown());
  }
  const load = promisify(execFile);
  const loading: number[] = [];
  const duringLoads: number[] = [];
  // Likewise the best of some loads.
  for (let i = 0; i < 7; i++) {
    const { stdout } = await load(process.execPath, ["test/e2e/loadExtension.mjs", path.resolve("dist/extension.js")]);
    loading.push(Number(stdout));
    duringLoads.push(slowdown());
  }
  const needed = best(loading, duringLoads) + best(activations, duringWindows);
  note(
    `loading the bundle [${loading.join(", ")}] ms, activate() [${activations.join(", ")}] ms, together on an idle machine ` +
      `${needed.toFixed(0)} ms; VS Code, which activates many extensions at once, says ${await activationTime()} ms`,
  );
  skip(needed >= 100 && tooBusy([...duringLoads, ...duringWindows]), busyReason);
  expect(needed).toBeLessThan(100);
});

/** The shortest of some times, each divided by how much slower than idle the machine was then. */
const best = (times: number[], slower: number[]): number => Math.min(...slower.map((ratio, i) => times[i]! / ratio));

/** Milliseconds that activate() took in each extension host so far, by the extension's own log. */
const activationTimes = (): number[] =>
  [...session.extensionLog().matchAll(/activated in ([\d.]+) ms/g)].map((match) => Number(match[1]));

/** What VS Code itself measured, waiting for other extensions included. */
async function activationTime(): Promise<number> {
  const { page } = session;
  await runCommand(page, "Developer: Show Running Extensions");
  const row = page.locator(".runtime-extensions-editor .monaco-list-row", { hasText: "Reroute" }).first();
  const text = await row.locator(".activation-time", { hasText: /\d+ms/ }).textContent();
  await runCommand(page, "View: Close All Editors");
  return Number(/(\d+)ms/.exec(text!)![1]);
}

it("welcomes where there is no checkpoint yet", async () => {
  const { page } = session;
  // A window that follows soon may not know yet that it was open.
  await showContainer(page, "Reroute");
  await page.getByText("No checkpoint was found in this workspace", { exact: false }).waitFor();
  await page.locator(".welcome-view-content", { hasText: "Open Sample Checkpoint" }).first().waitFor();
  await treeRows(page, "Runs").filter({ hasText: "synthetic 48 x 128" }).waitFor();
  await session.screenshot("welcome");
});

function note(text: string): void {
  figures.push(text);
  console.log(text);
}

it.for([
  ["Routing", "routing", "utilisation", 48, 128, 150],
  ["Divergence", "divergence", "kl", 48, 128, 150],
  ["Similarity", "similarity", "similarity", 48, 128, 150],
  ["Similarity", "similarity", "similarity", 1, 256, 300],
] as const)(
  "%s (%s, %s) of %i x %i experts: first paint under the limit, hover under 16 ms",
  async ([title, view, figure, layers, experts, limit], { skip }) => {
    const { page } = session;
    const paints: number[] = [];
    const hovers: number[] = [];
    const slower: number[] = [];
    // Other work on the machine only adds time: the best of some tries, each against the machine as it was then, is what
    // rendering itself needs.
    const fits = () => paints.length >= 2 && best(paints, slower) < limit && best(hovers, slower) < 16;
    for (let attempt = 0; attempt < 6 && !fits(); attempt++) {
      await runCommand(page, `Reroute: Open ${title}`);
      const picker = quickInput(page);
      await picker.asksFor("Which run?");
      slower.push(slowdown());
      await picker.choose(`synthetic ${layers} x ${experts}`);
      const frame = await pageInState(page, view);
      paints.push(await paintOf(frame, view));
      const times: number[] = await frame.evaluate(hoverTimes(figure));
      expect(await frame.isVisible(`[data-figure=${figure}] .tooltip`)).toBe(true);
      hovers.push(times[Math.floor(times.length * 0.95)]!);
      if (fits()) await session.screenshot(`${view}-${experts}`);
      await runCommand(page, "View: Close All Editors");
    }
    const list = (values: number[]): string => values.map((ms) => ms.toFixed(1)).join(", ");
    const size = view === "similarity" ? `${experts} x ${experts}` : `${layers} x ${experts}`;
    figures.push(
      `${view} ${size}: first paint [${list(paints)}] ms, hover with raster, 95th percentile [${list(hovers)}] ms, ` +
        `machine [${slower.map((times) => times.toFixed(2)).join(", ")}] times slower than idle`,
    );
    console.log(figures.at(-1));
    skip(!fits() && tooBusy(slower), busyReason);
    expect(best(paints, slower)).toBeLessThan(limit);
    expect(best(hovers, slower)).toBeLessThan(16);
  },
);

/** From the arrival of the page's data until the frame that shows it was presented, as the page measured it. */
async function paintOf(frame: Frame, view: string): Promise<number> {
  let times: number[] = [];
  await until(async () => {
    times = await frame.evaluate(`performance.getEntriesByName("paint:${view}").map((entry) => entry.duration)`);
    return times.length > 0;
  });
  return times[0]!;
}
