/** The Trade-off panel. */
import { expect, it } from "vitest";
import { paretoFront } from "../../webview/tradeOff/measures";
import type { PageUnderTest } from "./harness";
import * as samples from "./samples";
import { choose, parseNumber, tableOf, usePages } from "./usePages";

const { openReady } = usePages();

const drawnRows = async (opened: PageUnderTest): Promise<string[]> =>
  (await opened.cells("[data-figure=tradeOff]")).map((row) => row[0]!);
const all = "[data-table=checkpoints]";

it("every comparable point in the table, choices change the axes", async () => {
  const shown = samples.tradeOff().points.filter(({ group }) => group.id === "olmoe-wiki");
  const opened = await openReady("tradeOff");
  const rows = await tableOf(opened, "tradeOff");
  // The teacher is drawn too: its divergence from itself is 0.
  const drawn = shown.filter(({ klToTeacher, stage }) => klToTeacher !== null || stage === "teacher");
  expect(rows.map((row) => row[0])).toEqual(drawn.map(({ label }) => label));
  expect(rows.map((row) => parseNumber(row[3]!))).toEqual(drawn.map(({ klToTeacher }) => klToTeacher ?? 0));
  await choose(opened, "Quality", "Loss");
  await choose(opened, "Cost", "Parameters");
  expect(await opened.tab.textContent("[data-figure=tradeOff] h2")).toBe("Loss against parameters");
  expect(await opened.cells("[data-figure=tradeOff]")).toHaveLength(shown.length);
  await opened.tab.focus("[data-figure=tradeOff] .plot-frame");
  for (const _ of ["frequency before", "frequency after", "merge before", "merge after", "reap before"])
    await opened.tab.keyboard.press("ArrowDown");
  expect(await opened.tab.textContent("[data-announcer]")).toContain(
    "reap, before calibration, reap-0.625 before, parameters: 4.30 B, loss, nats a token: 2.8 ± 0.03",
  );
  await opened.screenshot("tradeOff-nll");
  await opened.close();
});

it("what may not be compared, or is switched off, is not drawn, and the page says so", async () => {
  const opened = await openReady("tradeOff");
  await opened.tab.click("[data-figure=tradeOff] button:text-is('Table')");
  const missing = (): Promise<string> =>
    opened.tab.textContent("p.muted:has-text('not drawn')").then((text) => text ?? "");
  expect(await missing()).toBe(
    "Checkpoints not drawn: 1 without one of the two numbers, or 0 on a log axis; 1 measured with another teacher or text, which no chart may mix.",
  );
  await opened.tab.click("vscode-checkbox:text-is('reap')");
  expect(await drawnRows(opened)).toEqual([
    "OLMoE-1B-7B",
    "frequency-0.5 before",
    "frequency-0.5 after",
    "merge-0.75 before",
    "merge-0.75 after",
  ]);
  expect(await missing()).toContain("2 of methods switched off");
  // The teacher's divergence is 0, which a logarithmic axis cannot show.
  await opened.tab.click("vscode-checkbox:text-is('Log quality axis')");
  expect(await drawnRows(opened)).not.toContain("OLMoE-1B-7B");
  await opened.screenshot("tradeOff-log");
  await choose(opened, "Measured on", "OLMoE-1B-7B on code.jsonl, 96 x 512 tokens");
  expect(await drawnRows(opened)).toEqual(["aimer-0.5 after"]);
  await opened.close();
});

it("the table sorts by any column, checkpoints without the number last, and a row opens its run's report", async () => {
  const opened = await openReady("tradeOff");
  const column = async (at: number): Promise<string[]> => (await opened.cells(all)).map((row) => row[at]!);
  const sizes = await column(6);
  await opened.tab.click(`${all} button.sort:has-text("KL to teacher")`);
  const rising = (await column(7)).map(parseNumber);
  expect(rising.slice(0, -1)).toEqual([0, 0.21, 0.3, 0.33, 0.42, 0.47, 0.91]);
  expect((await column(0)).at(-1)).toBe("unfinished before");
  await opened.tab.click(`${all} button.sort:has-text("KL to teacher")`);
  expect((await column(0))[0]).toBe("frequency-0.5 before");
  expect((await column(0)).at(-1)).toBe("unfinished before");
  expect([...(await column(6))].sort()).toEqual([...sizes].sort());
  await opened.tab.click(`${all} tbody tr >> nth=0`);
  expect(await opened.posted()).toContainEqual(
    expect.objectContaining({
      method: "command",
      params: { command: "openReport", runDirectory: "/w/.reroute/runs/frequency-0.5" },
    }),
  );
  await opened.close();
});

it.each([
  [
    false,
    [
      [1, 3],
      [2, 2],
      [4, 1],
    ],
  ],
  [
    true,
    [
      [5, 4],
      [4, 1],
    ],
  ],
])("the front holds what no other beats (more is better: %s)", (higherIsBetter, front) => {
  const points = [
    [1, 3],
    [2, 2],
    [3, 2.5],
    [4, 1],
    [5, 4],
    [2, 2.1],
  ].map(([x, y]) => ({ x: x!, y: y! }));
  expect(paretoFront(points, higherIsBetter).map(({ x, y }) => [x, y])).toEqual(front);
});
