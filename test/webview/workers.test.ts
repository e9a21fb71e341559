/** The Workers page: lanes, throughput, tables and filter, with 300 workers of made-up data too. */
import { expect, it } from "vitest";
import { arranged, throughput } from "../../webview/workers/spread";
import { seriousFindings } from "../support/axe";
import * as samples from "./samples";
import { choose, hydrate, parseNumber, tableOf, usePages } from "./usePages";

const { openReady, open } = usePages();

it("what was done by whom, in the lanes, in the table, and what it comes to", async () => {
  const data = samples.workers();
  const opened = await openReady("workers", data);
  const facts = await opened.tab.textContent("dl.facts");
  expect(facts).toContain("6: 4 working, 1 idle, 1 lost, 1 not eligible");
  expect(facts).toContain("40 done, 1 left, 1 repeated");
  expect(facts).toContain("81.2 % of the workers' processor time");
  expect(facts).toContain("85.5 % of the time");
  const rows = await tableOf(opened, "lanes");
  // The rows in sight, in order of time.
  expect(rows[0]!.slice(1, 5)).toEqual(["profile", "sequences", "0", "64"]);
  expect(rows.map((row) => row[0])).toEqual(
    data.tiles.worker.slice(0, rows.length).map((worker) => data.workers[worker]!.name),
  );
  const state = (name: string) => opened.tab.locator(`[data-table=workers] tr:has-text("${name}") td:nth-child(3)`);
  expect(await state("node-0-1").textContent()).toBe(
    "not eligible: its arithmetic gives other bits (numerics 0f3a, AVX2)",
  );
  expect(await state("node-0-3").textContent()).toBe("lost");
  expect(await opened.cells("[data-table=passes]")).toEqual([
    expect.arrayContaining(["profile", "20", "0", "1"]),
    expect.arrayContaining(["gradient", "20", "1", "0"]),
  ]);
  await opened.screenshot("workers");
  await opened.close();
});

it("throughput: every token of every tile is in it", async () => {
  const data = samples.workers();
  const opened = await openReady("workers", data);
  const width = data.seconds / 120;
  const rows = await tableOf(opened, "throughput");
  expect(parseNumber(rows[1]![1]!.replace(",", ""))).toBeGreaterThan(0);
  for (const { pass, points } of throughput(data)) {
    const tokens = data.tiles.tokens.reduce((sum, one, i) => sum + (data.tiles.pass[i] === pass ? one : 0), 0);
    expect(points.reduce((sum, { y }) => sum + y * width, 0) / tokens).toBeCloseTo(1, 9);
  }
  await opened.close();
});

it("the keyboard goes from tile to tile and from worker to worker", async () => {
  const opened = await openReady("workers");
  const said = (): Promise<string> => opened.tab.textContent("[data-announcer]").then((text) => text ?? "");
  await opened.tab.focus("[data-figure=lanes] .plot-frame");
  await opened.tab.keyboard.press("ArrowRight");
  expect(await said()).toMatch(/^Worker node-0-0, 1 of 8: profile, sequences 0 to 64, \d+ s from .*, 32,768 tokens, /);
  await opened.tab.keyboard.press("End");
  expect(await said()).toContain("Worker node-0-0, 8 of 8: gradient, batch 448 to 512");
  await opened.tab.keyboard.press("Home");
  await opened.tab.keyboard.press("ArrowDown");
  expect(await said()).toBe("Worker node-0-1: nothing");
  await opened.tab.keyboard.press("ArrowDown");
  for (let i = 0; i < 3; i++) await opened.tab.keyboard.press("ArrowRight");
  expect(await said()).toMatch(/^Worker node-0-2, 4 of 8: .*, repeated$/);
  expect(await opened.tab.isVisible("[data-figure=lanes] .tooltip")).toBe(true);
  await opened.screenshot("workers-keyboard");
  await opened.tab.keyboard.press("Escape");
  expect(await opened.tab.isVisible("[data-figure=lanes] .tooltip")).toBe(false);
  await opened.close();
});

it("the pointer finds the tile below it", async () => {
  const opened = await openReady("workers");
  const frame = (await opened.tab.locator("[data-figure=lanes] .plot-frame").boundingBox())!;
  const seen = new Set<string>();
  for (let y = 30; y < 190; y += 6) {
    await opened.tab.mouse.move(frame.x + frame.width / 4, frame.y + y);
    const text = (await opened.tab.textContent("[data-figure=lanes] .tooltip")) ?? "";
    if (await opened.tab.isVisible("[data-figure=lanes] .tooltip")) seen.add(text.split("\n")[0]!);
  }
  expect([...seen].sort()).toEqual([0, 2, 3, 4, 5].map((i) => `Worker node-0-${i}`));
  await opened.close();
});

it("300 workers: drawn within moments, found by words, put in order, and exported whole", async () => {
  const data = samples.workers(300, 60);
  const opened = await openReady("workers", data);
  expect(await opened.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")).toBe(true);
  expect(await opened.tab.textContent("dl.facts")).toContain("300: ");
  // Tables hold the rows in sight alone.
  expect(await opened.tab.locator("[data-table=workers] tbody tr").count()).toBeLessThan(60);
  await opened.screenshot("workers-300");
  await opened.tab.locator("[data-figure=lanes] button", { hasText: "CSV" }).click();
  const { params } = await opened.answer("save", { saved: false });
  expect((params as { content: string }).content.trim().split("\r\n")).toHaveLength(1 + data.tiles.worker.length);
  await opened.tab.locator("[data-figure=lanes] button", { hasText: "PNG" }).click();
  const picture = await opened.answer("save", { saved: false });
  expect(picture.params).toMatchObject({ mime: "image/png", encoding: "base64" });
  await choose(opened, "Order", "State: what needs a look first");
  expect((await opened.cells("[data-table=workers]")).slice(0, 3).map((row) => row[0])).toEqual([
    "node-0-1",
    "node-0-3",
    "node-0-0",
  ]);
  await opened.tab.fill("vscode-text-field input, vscode-textfield input", "node-7");
  await opened.until("() => document.querySelector('[role=status].muted').textContent.includes('292 of 300')");
  expect(await opened.cells("[data-table=workers]")).toHaveLength(8);
  await opened.screenshot("workers-filtered");
  expect(await seriousFindings(opened.tab)).toEqual([]);
  expect(await opened.troubles()).toEqual([]);
  await opened.close();
});

it("more workers than lanes can be told apart: the page says what it shows", async () => {
  const opened = await openReady("workers", samples.workers(400, 3));
  expect(await opened.tab.textContent("p[role=status].muted")).toBe("The timeline shows the first 300 of 400.");
  await opened.close();
});

it("before the first tile, in a narrow window, and again with more", async () => {
  const none = samples.workers(2, 0, { seconds: 0, efficiency: null, busy: null, events: [] });
  const opened = await open("workers", { width: 420, height: 800 });
  await opened.send(hydrate("workers", none));
  expect(await opened.tab.textContent("[data-figure=lanes]")).toContain("No tile is done yet.");
  expect(await opened.tab.textContent("dl.facts")).toContain("– of the workers' processor time");
  await opened.send(hydrate("workers", samples.workers(), { live: true }));
  expect(await opened.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")).toBe(true);
  expect(await opened.tab.textContent("dl.facts")).toContain("tokens/s");
  await opened.screenshot("workers-narrow");
  expect(await opened.troubles()).toEqual([]);
  await opened.close();
});

it("words are looked for in name, host, state and reason", () => {
  const { workers } = samples.workers(12);
  const names = (words: string) => arranged(workers, words, "name").map((i) => workers[i]!.name);
  expect(names("node-1")).toEqual(["node-1-8", "node-1-9", "node-1-10", "node-1-11"]);
  expect(names("NOT avx2")).toEqual(["node-0-1"]);
  expect(names("lost node-0")).toEqual(["node-0-3"]);
  expect(names("nothing")).toEqual([]);
});

it("workers that keep to some layers say so in the lanes, in a column and to the filter", async () => {
  const data = samples.workers(4);
  const parts = data.workers.map((worker, i) => ({ ...worker, layers: i < 2 ? `${i + 1}/2` : null }));
  const opened = await openReady("workers", { ...data, workers: parts });
  const heads = await opened.tab.locator("[data-table=workers] thead th").allTextContents();
  const column = heads.findIndex((head) => head.includes("Layers")) + 1;
  expect(column).toBeGreaterThan(0);
  const cells = await opened.tab.locator(`[data-table=workers] tbody td:nth-child(${column})`).allTextContents();
  expect(cells.slice(0, 4)).toEqual(["1/2", "2/2", "all", "all"]);
  await opened.screenshot("workers-layers");
  expect(arranged(parts, "layers 2/2", "name")).toEqual([1]);
  await opened.close();
});
