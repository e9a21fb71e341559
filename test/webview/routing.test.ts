/** The Routing panel. */
import { expect, it } from "vitest";
import * as samples from "./samples";
import { choose, tableOf, usePages } from "./usePages";

const { openReady } = usePages();

it("table, coverage, domains and difference", async () => {
  const shown = samples.routing(4, 8);
  const opened = await openReady("routing", shown);
  const overall = shown.byDomain[""]!;
  const rows = await tableOf(opened, "utilisation");
  expect(rows).toHaveLength(4);
  rows.forEach((row, layer) => {
    expect(row[0]).toBe(String(shown.layers[layer]));
    row.slice(1).forEach((cell, expert) => {
      const share = overall.utilisation.values[layer * 8 + expert]!;
      expect(Number.parseFloat(cell)).toBeCloseTo(share * 100, 0);
    });
  });
  const coverage = (await opened.tab.textContent("[data-coverage]"))!;
  expect(shown.neverUsed).toHaveLength(2);
  expect(coverage).toContain("2 of 32 experts were never used by the 1,536,000 profiled tokens");
  expect(coverage).toContain("layer 1: expert 3; layer 4: expert 0");
  const margins = await tableOf(opened, "margin");
  margins.forEach(([layer, margin], i) => {
    expect(Number(layer)).toBe(overall.layers[i]!.layer);
    expect(Number(margin)).toBeCloseTo(overall.layers[i]!.topKMargin!, 4);
  });

  await choose(opened, "Measure", "Mean routing weight");
  await choose(opened, "Domain", "prose");
  await opened.tab.click("vscode-checkbox:text('Difference')");
  await opened.settle();
  expect(await opened.tab.textContent("[data-figure=utilisation] h2")).toBe(
    "Mean routing weight, domain prose minus all domains",
  );
  const prose = shown.byDomain["prose"]!.meanRoutingWeight.values;
  const all = overall.meanRoutingWeight.values;
  const differences = await opened.cells("[data-figure=utilisation]");
  expect(Number(differences[1]![3])).toBeCloseTo(prose[10]! - all[10]!, 3);
  expect(differences[0]![4]).toBe("–"); // layer 1, expert 3 was never used
  await opened.close();
});

it("moves the cell cursor, announces it, selects with Enter", async () => {
  const shown = samples.routing(4, 8);
  const opened = await openReady("routing", shown);
  await opened.tab.focus("[data-figure=utilisation] .plot-frame");
  for (const key of ["ArrowRight", "ArrowRight", "ArrowDown"]) await opened.tab.keyboard.press(key);
  const share = shown.byDomain[""]!.utilisation.values[8 + 1]!;
  const announced = (await opened.tab.textContent("[data-announcer]"))!;
  expect(announced).toContain("Layer 2, expert 1");
  expect(Number.parseFloat(/: ([\d.]+) %/.exec(announced)![1]!)).toBeCloseTo(share * 100, 0);
  expect(await opened.tab.isVisible(".tooltip")).toBe(true);
  await opened.screenshot("routing-cursor");
  await opened.tab.keyboard.press("Enter");
  expect(await opened.posted()).toContainEqual({ type: "select", layer: 2, expert: 1 });
  await opened.tab.keyboard.press("Escape");
  expect(await opened.tab.isVisible(".tooltip")).toBe(false);
  // The line charts too.
  await opened.tab.focus("[data-figure=margin] .plot-frame");
  await opened.tab.keyboard.press("ArrowRight");
  await opened.tab.keyboard.press("ArrowRight");
  expect(await opened.tab.textContent("[data-announcer]")).toContain("Layer 2, top-k margin: 0.1");
  await opened.screenshot("routing-line-cursor");
  await opened.close();
});
