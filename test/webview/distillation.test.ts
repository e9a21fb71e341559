import { describe, expect, it } from "vitest";
import { toCsv } from "../../webview/common/tableModel";
import { figureTable } from "../../webview/distillation/table";
import { seriousFindings } from "../support/axe";
import * as samples from "./samples";
import { parseNumber, tableOf as shownTable, usePages } from "./usePages";

const { openReady } = usePages();
const sample = samples.distillation();

describe("the distillation's page", () => {
  it("draws each figure that was measured, with its numbers and intervals as a table", async () => {
    const opened = await openReady("distillation", sample);
    await opened.settle();
    expect(await opened.tab.locator(".figure h2").allTextContents()).toEqual(sample.figures.map(({ title }) => title));
    const quality = await shownTable(opened, "quality-by-active-experts");
    const [loss, kl] = sample.figures[1]!.series;
    expect(quality.map((row) => row.map(parseNumber))).toEqual(
      [1, 2, 4, 8].map((active, i) =>
        [active, loss!.points[i]!.y, 0.04, kl!.points[i]!.y, 0.01].map((value) => expect.closeTo(value, 3) as number),
      ),
    );
    const arms = await shownTable(opened, "students-by-how-they-were-taught");
    expect(arms).toEqual(sample.figures[2]!.rows!.cells);
    await opened.tab.focus("[data-figure=gate-mass-by-layer] .plot-frame");
    await opened.tab.keyboard.press("ArrowRight");
    expect(await opened.tab.textContent("[data-announcer]")).toMatch(/layer \d, activated: /);
    await opened.screenshot("distillation-tables");
    expect(await seriousFindings(opened.tab)).toEqual([]);
    expect(await opened.troubles()).toEqual([]);
    await opened.close();
  });

  it("exports in full precision", () => {
    const lines = toCsv(figureTable(sample.figures[0]!)).trim().split("\r\n");
    expect(lines[0]).toBe("layer,activated (share of router probability),others (share of router probability)");
    expect(lines[1]!.split(",").map(Number)).toEqual([
      0,
      ...sample.figures[0]!.series.map(({ points }) => points[0]!.y),
    ]);
  });
});
