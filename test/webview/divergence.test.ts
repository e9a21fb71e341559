/** The Divergence panel, and what every chart does: export, keyboard, selection, restoring. */
import { expect, it } from "vitest";
import * as samples from "./samples";
import { parseNumber, tableOf, usePages } from "./usePages";

const { openReady } = usePages();

it("before, after, difference, dropped experts", async () => {
  const shown = samples.divergence(3, 16);
  const opened = await openReady("divergence", shown);
  expect(await opened.tab.textContent("[data-mapping]")).toContain(shown.mapping.description);
  const after = await tableOf(opened, "kl");
  await opened.tab.click("button:text-is('Before calibration')");
  await opened.settle();
  const before = await opened.cells("[data-figure=kl]");
  await opened.tab.click("button:text-is('Difference')");
  await opened.settle();
  const difference = await opened.cells("[data-figure=kl]");
  await opened.screenshot("divergence-difference");
  let dropped = 0;
  for (let layer = 0; layer < 3; layer++)
    for (let expert = 0; expert < 16; expert++) {
      const a = shown.after!.kl.values[layer * 16 + expert]!;
      const b = shown.before!.kl.values[layer * 16 + expert]!;
      const cells = [after, before, difference].map((rows) => parseNumber(rows[layer]![expert + 1]!));
      if (a === null) {
        expect(cells).toEqual([null, null, null]);
        dropped++;
      } else {
        expect(cells[0]).toBeCloseTo(a, 5);
        expect(cells[1]).toBeCloseTo(b, 5);
        expect(cells[2]).toBeCloseTo(a - b, 5);
      }
    }
  expect(dropped).toBe(18);
  // Columns are before and after: what is counted, in which unit, is the caption's.
  await tableOf(opened, "routingKl");
  expect(await opened.tab.textContent("[data-figure=routingKl] caption")).toBe("Routing KL by layer (nats a token)");
  const overlap = await tableOf(opened, "topKOverlap");
  expect(Number(overlap[2]![1])).toBeCloseTo(shown.before!.byLayer[2]!.topKOverlap, 3);
  expect(Number(overlap[2]![2])).toBeCloseTo(shown.after!.byLayer[2]!.topKOverlap, 3);
  await opened.close();
});

it("reaches every control with Tab", async () => {
  const opened = await openReady("divergence");
  const seen = new Set<string>();
  for (let i = 0; i < 30; i++) {
    await opened.tab.keyboard.press("Tab");
    seen.add(
      await opened.tab.evaluate(
        "(document.activeElement.textContent || document.activeElement.className).slice(0, 30)",
      ),
    );
  }
  const reached = [...seen].join("|");
  for (const name of ["Before calibration", "Difference", "Table", "PNG", "CSV", "plot-frame"])
    expect(reached).toContain(name);
  // The sample has contributions below zero, for which a logarithm has no place: the choice is not offered.
  expect(await opened.tab.isVisible("vscode-checkbox:text('Logarithmic colours')")).toBe(false);
  await opened.close();
});

it("shows what another panel selected", async () => {
  const opened = await openReady("divergence", samples.divergence(4, 8));
  const pixels = `(() => { const c = document.querySelector('[data-figure=kl] canvas.overlay');
    return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 0).length; })()`;
  expect(await opened.tab.evaluate(pixels)).toBe(0);
  await opened.send({ type: "select", layer: 2, expert: 5 });
  expect(await opened.tab.evaluate<number>(pixels)).toBeGreaterThan(50);
  expect((await opened.posted()).filter(({ type }) => type === "select")).toEqual([]);
  await opened.close();
});

it("CSV holds every number in full, PNG is a picture with background", async () => {
  const shown = samples.divergence(3, 16);
  const opened = await openReady("divergence", shown);
  await opened.tab.click("[data-figure=kl] button:text-is('CSV')");
  const csv = await opened.answer("save", { saved: true });
  const params = csv.params as { fileName: string; content: string; mime: string };
  expect(params).toMatchObject({
    mime: "text/csv",
    encoding: "utf8",
    fileName: "olmoe-reap-0-625-routing-kl-by-layer-and-expert-after-calibration.csv",
  });
  const lines = params.content
    .trimEnd()
    .split("\r\n")
    .map((line) => line.split(","));
  expect(lines[0]).toEqual(["Layer", ...Array.from({ length: 16 }, (_, i) => String(i))]);
  const values = lines.slice(1).flatMap((line) => line.slice(1).map((cell) => (cell === "" ? null : Number(cell))));
  expect(values).toEqual(shown.after!.kl.values);
  await opened.tab.click("[data-figure=kl] button:text-is('PNG')");
  const png = await opened.answer("save", { saved: true });
  const bytes = Buffer.from((png.params as { content: string }).content, "base64");
  expect(bytes.subarray(1, 4).toString()).toBe("PNG");
  expect(bytes.readUInt32BE(16)).toBeGreaterThan(800);
  const { writeFileSync } = await import("node:fs");
  writeFileSync("out/webview/exported-divergence.png", bytes);
  expect(await opened.tab.textContent("[data-announcer]")).toBe("PNG saved");
  await opened.close();
});

it("restores choices and tables from the saved state", async () => {
  const state = {
    version: 1,
    page: "divergence",
    source: samples.context.source,
    view: { phase: "before", "table:kl": true, log: true },
  };
  const opened = await openReady("divergence", undefined, state);
  expect((await opened.posted())[0]).toMatchObject({ type: "ready", state });
  expect(await opened.tab.getAttribute("button:text-is('Before calibration')", "aria-pressed")).toBe("true");
  expect((await opened.cells("[data-figure=kl]")).length).toBeGreaterThan(10);
  await opened.screenshot("divergence-restored");
  await opened.close();
});
