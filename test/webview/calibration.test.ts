/** The Router KD panel. */
import { expect, it } from "vitest";
import { smoothTraining } from "../../webview/calibration/smoothing";
import * as samples from "./samples";
import { hydrate, tableOf, usePages } from "./usePages";

const { openReady } = usePages();

it("streamed lines are added, repeated steps replaced", async () => {
  const shown = { ...samples.calibration(10), verdict: null };
  const opened = await openReady("calibration", shown);
  await tableOf(opened, "loss");
  await opened.send({
    type: "update",
    page: "calibration",
    lines: [
      { kind: "update", step: 10, loss: 0.4321, learningRate: 1e-5, gradientNorm: 1, tokens: 4096, seconds: 1 },
      { kind: "update", step: 11, loss: 0.1234, learningRate: 2e-5, gradientNorm: 2, tokens: 4096, seconds: 1 },
      { kind: "held-out", step: 11, kl: 0.0987, nll: 2.3, best: true },
    ],
  });
  const rows = await opened.cells("[data-figure=loss]");
  expect(rows.slice(-2)).toEqual([
    ["10", "0.4321", "–"],
    ["11", "0.1234", "0.0987"],
  ]);
  expect(rows).toHaveLength(12);
  const facts = (await opened.tab.textContent(".facts"))!;
  expect(facts).toContain("11 of 400");
  expect(facts).toContain("0.0987 nats a token (update 11)");
  await opened.close();
});

it.each([
  ["a constant stays", [2, 2, 2, 2, 2, 2, 2], [2, 2, 2, 2, 2, 2, 2]],
  ["a line stays, to its ends", [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6]],
  ["a peak spreads over five", [0, 0, 0, 5, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0]],
  ["nothing", [], []],
])("smoothing: %s", (_, values, expected) => {
  const smooth = smoothTraining(values.map((y, x) => ({ x, y })));
  for (const [i, y] of expected.entries()) expect(smooth[i]!.y).toBeCloseTo(y, 12);
  expect(smooth).toHaveLength(expected.length);
});

it("smoothing changes the training line alone, and says over how many updates", async () => {
  const opened = await openReady("calibration", samples.calibration(200));
  // Rows in sight may differ by a few: the table is virtual.
  const before = (await tableOf(opened, "loss")).slice(0, 20);
  await opened.tab.click("vscode-checkbox:text-is('Smooth training KL')");
  expect(await opened.tab.textContent("[data-figure=loss] thead")).toContain("training, mean of 11 updates");
  const after = (await opened.cells("[data-figure=loss]")).slice(0, 20);
  expect(after.map((row) => row[2])).toEqual(before.map((row) => row[2]));
  expect(after.map((row) => row[1])).not.toEqual(before.map((row) => row[1]));
  await opened.screenshot("calibration-smooth");
  await opened.close();
});

it("the verdict is said once", async () => {
  const opened = await openReady("calibration");
  expect(await opened.tab.textContent("[data-verdict]")).toMatch(/^Verdict: recovered\. KL to the teacher went from /);
  await opened.send(hydrate("calibration", { ...samples.calibration(3), verdict: { verdict: "worse", text: "Odd" } }));
  expect(await opened.tab.textContent("[data-verdict]")).toBe("Verdict: worse. Odd");
  await opened.close();
});
