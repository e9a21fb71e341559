/** The Trade-off panel. */
import { expect, it } from "vitest";
import * as samples from "./samples";
import { choose, parseNumber, tableOf, usePages } from "./usePages";

const { openReady } = usePages();

it("every point in the table, choices change the axes", async () => {
  const shown = samples.tradeOff();
  const opened = await openReady("tradeOff", shown);
  const rows = await tableOf(opened, "tradeOff");
  // The teacher is drawn too: its divergence from itself is 0.
  const drawn = shown.points.filter(({ klToTeacher, stage }) => klToTeacher !== null || stage === "teacher");
  expect(rows.map((row) => row[0])).toEqual(drawn.map(({ label }) => label));
  expect(rows.map((row) => parseNumber(row[3]!))).toEqual(drawn.map(({ klToTeacher }) => klToTeacher ?? 0));
  await choose(opened, "Quality", "Loss");
  await choose(opened, "Cost", "Parameters");
  expect(await opened.tab.textContent("[data-figure=tradeOff] h2")).toBe("Loss against parameters");
  expect(await opened.cells("[data-figure=tradeOff]")).toHaveLength(shown.points.length);
  await opened.tab.focus("[data-figure=tradeOff] .plot-frame");
  await opened.tab.keyboard.press("ArrowDown");
  expect(await opened.tab.textContent("[data-announcer]")).toContain(
    "compressed, before calibration, reap-0.625 before, parameters: 4.3B, loss, nats a token: 2.8 ± 0.03",
  );
  await opened.screenshot("tradeOff-nll");
  await opened.close();
});
