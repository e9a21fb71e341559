/** The table of a .safetensors file. */
import { expect, it } from "vitest";
import { seriousFindings } from "../support/axe";
import * as samples from "./samples";
import { usePages } from "./usePages";

const { openReady } = usePages();

it("filter, sort, statistics on demand, 100,000 rows", async () => {
  const shown = { ...samples.tensors(260, 128) };
  expect(shown.tensors.length).toBeGreaterThan(100_000);
  const opened = await openReady("tensors", shown);
  const rendered = await opened.cells("[data-table]");
  expect(rendered.length).toBeLessThan(80);
  expect(await opened.tab.getAttribute("[data-table] table", "aria-rowcount")).toBe(String(shown.tensors.length + 1));
  const [drawMs] = await opened.measures("hydrate:tensors");
  console.log(`tensors: ${shown.tensors.length} rows shown in ${drawMs!.toFixed(0)} ms`);
  await opened.tab.focus("[data-table] .table-scroll");
  await opened.tab.keyboard.press("End");
  await opened.settle();
  const last = (await opened.cells("[data-table]")).at(-1)!;
  expect(last[0]).toBe(shown.tensors.at(-1)!.name);
  await opened.tab.locator("vscode-text-field input, vscode-textfield input").fill("layers.7. gate.weight");
  await opened.until("() => document.querySelector('[data-total]').textContent.startsWith('1 of')");
  const [row] = await opened.cells("[data-table]");
  expect(row).toEqual([
    "model.layers.7.mlp.gate.weight",
    "[128, 2048]",
    "BF16",
    "524,288",
    "model-00003-of-00005.safetensors",
  ]);
  await opened.tab.locator("[data-table] tbody tr").first().focus();
  await opened.tab.keyboard.press("Enter");
  const asked = await opened.answer("tensorStatistics", {
    name: "model.layers.7.mlp.gate.weight",
    count: 262144,
    finite: 262140,
    min: -0.25,
    max: 0.31,
    mean: 0.0012,
    standardDeviation: 0.0456,
    zeros: 100,
    histogram: {
      edges: Array.from({ length: 21 }, (_, i) => -0.3 + i * 0.03),
      counts: Array.from({ length: 20 }, (_, i) => 100 * (10 - Math.abs(i - 10))),
    },
  });
  expect(asked.params).toEqual({ tensor: "model.layers.7.mlp.gate.weight" });
  const statistics = (await opened.tab.textContent("[data-statistics]"))!;
  for (const part of ["262,144", "4 (NaN or infinity)", "0.0012", "0.0456", "-0.25", "0.31"])
    expect(statistics).toContain(part);
  await opened.screenshot("tensors-statistics");
  await opened.tab.locator("vscode-text-field input, vscode-textfield input").fill("");
  await opened.tab.click("button.sort:text('Bytes')");
  await opened.settle();
  expect((await opened.cells("[data-table]"))[0]![3]).toBe("524,288");
  expect(await seriousFindings(opened.tab)).toEqual([]);
  await opened.close();
});

it("of a packed tensor: dequantised values, codes and scales, each with its table", async () => {
  const opened = await openReady("tensors", samples.tensors(2, 2));
  await opened.tab.click("[data-table] tbody tr");
  const of = (name: string, min: number, max: number) => ({
    ...{ name, count: 1000, finite: 1000, min, max, mean: 0, standardDeviation: (max - min) / 4, zeros: 40 },
    histogram: { edges: [min, 0, max], counts: [480, 520] },
  });
  await opened.answer("tensorStatistics", {
    ...of("q_proj.weight_packed", -2e9, 2e9),
    packed: {
      form: "I32 (packed integers)",
      matrices: { read: 2, all: 8 },
      values: of("q_proj.weight_packed", -0.4, 0.5),
      codes: of("q_proj.weight_packed", -8, 7),
      scales: [of("<b>q_proj.weight_scale", 0.01, 0.07)],
    },
  });
  const packed = (await opened.tab.textContent("[data-packed]"))!;
  for (const part of [
    "packed integers), 2 of 8 matrices",
    "-0.4 to 0.5",
    "-8 to 7",
    "zeros 4 %",
    "<b>q_proj.weight_scale: 0.01 to 0.07",
  ])
    expect(packed).toContain(part);
  await opened.tab.click('[data-figure=codes] button:text-is("Table")');
  expect(await opened.cells("[data-figure=codes]")).toEqual([
    ["-8", "0", "480"],
    ["0", "7", "520"],
  ]);
  expect(await opened.tab.textContent("[data-figure=histogram] h2")).toBe("Distribution of stored values");
  await opened.screenshot("tensors-packed");
  expect(await seriousFindings(opened.tab)).toEqual([]);
  expect(await opened.troubles()).toEqual([]);
  await opened.close();
});
