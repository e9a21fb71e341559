/** The pages' controls from the library that a flag of the build puts in the toolkit's place, under the same policy. */
import { expect, it } from "vitest";
import { seriousFindings } from "../support/axe";
import * as samples from "./samples";
import { choose, usePages } from "./usePages";

const { open, openReady } = usePages("elements");

it("a dropdown and a checkbox", async () => {
  const shown = samples.routing(4, 8);
  const opened = await openReady("routing", shown);
  expect(await opened.tab.locator("vscode-single-select").count()).toBeGreaterThan(1);
  expect(await opened.tab.locator("vscode-dropdown").count()).toBe(0);
  await choose(opened, "Domain", "prose");
  await opened.tab.click("vscode-checkbox:text('Difference')");
  await opened.settle();
  const title = () => opened.tab.textContent("[data-figure=utilisation] h2");
  expect(await title()).toContain("domain prose minus all domains");
  // By keyboard, too.
  await opened.tab.locator('vscode-single-select[label="Domain"] [role=combobox]').focus();
  for (const key of ["Enter", "ArrowUp", "Enter"]) await opened.tab.keyboard.press(key);
  await opened.settle();
  expect(await title()).not.toContain("prose");
  expect(await seriousFindings(opened.tab)).toEqual([]);
  expect(await opened.troubles()).toEqual([]);
  await opened.screenshot("components-elements");
  await opened.close();
});

it("a text field", async () => {
  const opened = await openReady("tensors", samples.tensors(4, 8));
  await opened.tab.locator("vscode-textfield input").fill("layers.2. gate.weight");
  await opened.until("() => document.querySelector('[data-total]').textContent.startsWith('1 of')");
  expect(await seriousFindings(opened.tab)).toEqual([]);
  expect(await opened.troubles()).toEqual([]);
  await opened.close();
});

it("buttons, and a ring while a page waits", async () => {
  const waiting = await open("overview");
  expect(await waiting.tab.locator("vscode-progress-ring[role=progressbar]").count()).toBe(1);
  expect(await waiting.troubles()).toEqual([]);
  await waiting.close();
  const opened = await openReady("overview");
  await opened.tab.click("vscode-button:text('Cancel')");
  expect((await opened.posted()).at(-1)).toMatchObject({ method: "command", params: { command: "cancelRun" } });
  expect(await seriousFindings(opened.tab)).toEqual([]);
  expect(await opened.troubles()).toEqual([]);
  await opened.close();
});
