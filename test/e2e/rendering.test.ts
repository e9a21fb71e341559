/** How fast the pages draw inside VS Code's browser, from run folders of large models; and activation. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Frame } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { until } from "./codeServer";
import { openSession, type Session } from "./session";
import { syntheticRun } from "./syntheticRun";
import { activityBarItem, openFolder, pageInState, quickInput, runCommand, treeRows } from "./workbench";

let session: Session;
const runs = [
  ["2026-01-01_large", 48, 128],
  ["2026-01-02_wide", 1, 256],
] as const;
const figures: string[] = [];

beforeAll(async () => {
  session = await openSession("rendering");
  const { workspace, page, server } = session;
  writeFileSync(path.join(workspace, "notes.txt"), "a workspace of run folders\n");
  for (const [id, layers, experts] of runs)
    await syntheticRun(path.join(workspace, ".reroute", "runs"), id, layers, experts);
  await openFolder(page, server.url, workspace, "notes.txt");
  await activityBarItem(page, "Reroute").waitFor();
});
afterAll(() => {
  if (!session) return;
  writeFileSync(path.join(session.out, "times.txt"), `${figures.join("\n")}\n`);
  return session.close();
});

it("activates in under 100 ms, the bundle's loading included, and starts no engine", async () => {
  const { page, server, workspace } = session;
  // Other work on the machine only adds time: the best of some windows is what activation itself needs.
  let times: number[] = [];
  for (let window = 1; window <= 5 && !(Math.min(...times) < 100); window++) {
    if (window > 1) await openFolder(page, server.url, workspace, "notes.txt");
    await until(() => (times = activationTimes(path.join(server.userData, "logs"))).length >= window, 60_000);
  }
  note(`activation with loading [${times.join(", ")}] ms`);
  expect(Math.min(...times)).toBeLessThan(100);
  expect(server.processes().filter(({ command }) => command.includes("dist/engine.js"))).toEqual([]);
});

/**
 * Milliseconds from VS Code's decision to activate the extension, which reads and compiles its bundle next, until the
 * extension said that it had; one for each extension host that has run.
 */
function activationTimes(logs: string): number[] {
  const files = readdirSync(logs, { recursive: true, encoding: "utf8" });
  return files
    .filter((file) => file.endsWith("remoteexthost.log"))
    .flatMap((file) => {
      const own = files.find((other) => other.startsWith(path.dirname(file)) && /reroute\.reroute.*\.log$/.test(other));
      const begun = timeOf(path.join(logs, file), /_doActivateExtension reroute/);
      const done = own === undefined ? null : timeOf(path.join(logs, own), /activated in/);
      return begun === null || done === null ? [] : [done - begun];
    });
}

/** When a log's first line of this kind was written. */
function timeOf(file: string, kind: RegExp): number | null {
  const line = readFileSync(file, "utf8")
    .split("\n")
    .find((text) => kind.test(text));
  return line === undefined ? null : Date.parse(line.slice(0, 23).replace(" ", "T"));
}

it("welcomes where there is no checkpoint yet", async () => {
  const { page } = session;
  await activityBarItem(page, "Reroute").click();
  await page.getByText("No checkpoint was found in this workspace", { exact: false }).waitFor();
  await page.locator(".welcome-view-content", { hasText: "Open Sample Checkpoint" }).first().waitFor();
  await treeRows(page, "Runs").filter({ hasText: "synthetic 48 x 128" }).waitFor();
  await session.screenshot("welcome");
});

function note(text: string): void {
  figures.push(text);
  console.log(text);
}

it.each([
  ["Routing", "routing", "utilisation", 48, 128, 150],
  ["Divergence", "divergence", "kl", 48, 128, 150],
  ["Similarity", "similarity", "similarity", 48, 128, 150],
  ["Similarity", "similarity", "similarity", 1, 256, 300],
])(
  "%s (%s, %s) of %i x %i experts: first paint under the limit, hover under 16 ms",
  async (title, view, figure, layers, experts, limit) => {
    const { page } = session;
    const paints: number[] = [];
    const hovers: number[] = [];
    // Other work on the machine only adds time: the best of some tries is what rendering itself needs.
    const fits = () => paints.length >= 2 && Math.min(...paints) < limit && Math.min(...hovers) < 16;
    for (let attempt = 0; attempt < 6 && !fits(); attempt++) {
      await runCommand(page, `Reroute: Open ${title}`);
      const picker = quickInput(page);
      await until(async () => (await picker.input.getAttribute("placeholder")) === "Which run?", 60_000);
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
      `${view} ${size}: first paint [${list(paints)}] ms, hover with raster, 95th percentile [${list(hovers)}] ms`,
    );
    console.log(figures.at(-1));
    expect(Math.min(...paints)).toBeLessThan(limit);
    expect(Math.min(...hovers)).toBeLessThan(16);
  },
);

/** From the arrival of the page's data until the frame that shows it was presented, as the page measured it. */
async function paintOf(frame: Frame, view: string): Promise<number> {
  let times: number[] = [];
  await until(async () => {
    times = await frame.evaluate(`performance.getEntriesByName("paint:${view}").map((entry) => entry.duration)`);
    return times.length > 0;
  }, 30_000);
  return times[0]!;
}

/** Times of 40 pointer moves over the cells, each with everything drawn (reading a pixel back waits for the raster). */
function hoverTimes(figure: string): string {
  return `(async () => {
    const frame = document.querySelector("[data-figure=${figure}] .plot-frame");
    const overlay = frame.querySelector("canvas.overlay").getContext("2d");
    const times = [];
    for (let i = 0; i < 40; i++) {
      await new Promise((done) => requestAnimationFrame(done));
      const { left, top } = frame.getBoundingClientRect();
      const start = performance.now();
      frame.dispatchEvent(new PointerEvent("pointermove", { clientX: left + 90 + i * 6, clientY: top + 70 + i * 4 }));
      frame.getBoundingClientRect();
      overlay.getImageData(0, 0, 1, 1);
      times.push(performance.now() - start);
    }
    return times.sort((a, b) => a - b);
  })()`;
}
