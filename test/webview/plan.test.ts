import { describe, expect, it } from "vitest";
import { countDifferences, differenceMap } from "../../webview/plan/differences";
import type { PlanData } from "../../src/protocol/pageData";
import { english } from "../../src/protocol/translate";
import { seriousFindings } from "../support/axe";
import type { PageUnderTest } from "./harness";
import * as samples from "./samples";
import { choose, hydrate, tableOf, usePages } from "./usePages";

const { open, openReady } = usePages();
const small = (more: Partial<PlanData["view"]> = {}): PlanData => {
  const data = samples.plan(4, 8, 5);
  return { ...data, view: { ...data.view, ...more } };
};

/** Moves the cursor from the first cell and presses Enter. */
async function pressAt(opened: PageUnderTest, down: number, right: number): Promise<void> {
  await opened.tab.focus("[data-figure=plan] .plot-frame");
  await opened.tab.keyboard.press("ArrowUp");
  for (let i = 0; i < down; i++) await opened.tab.keyboard.press("ArrowDown");
  for (let i = 0; i < right; i++) await opened.tab.keyboard.press("ArrowRight");
  await opened.tab.keyboard.press("Enter");
}
const announced = (opened: PageUnderTest): Promise<string | null> => opened.tab.textContent("[data-announcer]");

describe("the plan's page", () => {
  it("drops and keeps by key, shows what it weighs, and says what the engine refused", async () => {
    const opened = await openReady("plan", small());
    expect(await opened.tab.textContent("[data-sizes]")).toContain("19.7 B of 30.5 B (64.5 %)");
    await pressAt(opened, 1, 3);
    const { params } = await opened.answer("planEdit", { said: "expert 3 of layer 1 is kept" });
    expect(params).toEqual({ edit: { kind: "expert", layer: 1, expert: 3 } });
    expect(await announced(opened)).toBe("expert 3 of layer 1 is kept");
    expect(await opened.posted()).toContainEqual({ type: "select", layer: 1, expert: 3 });
    expect(await opened.tab.textContent("[data-cell]")).toMatch(/Layer 1, expert 3.*8 of 8, the highest score first/s);

    await opened.tab.click("[data-cell] vscode-button");
    await opened.refuse("planEdit", "plan/invalid", "The plan keeps 1 experts of layer 1");
    expect(await opened.tab.textContent(".notice.warning")).toContain(
      "Not changed: The plan keeps 1 experts of layer 1",
    );
    expect(await tableOf(opened, "plan")).toHaveLength(4);
    await opened.close();
  });

  it("moves a layer's amount by arrow keys", async () => {
    const opened = await openReady("plan", small());
    const slider = "[data-amounts] input";
    expect(await opened.tab.getAttribute(slider, "aria-valuetext")).toBe("5 of 8 experts");
    await opened.tab.focus(slider);
    await opened.tab.keyboard.press("ArrowLeft");
    await opened.tab.keyboard.press("Tab");
    const { params } = await opened.answer("planEdit", { said: "every layer: 4" });
    expect(params).toEqual({ edit: { kind: "amount", layer: null, name: "", value: 4 } });
    await opened.close();
  });

  it("names bits by their choices, and goes on to the next by a click", async () => {
    const amounts = [0, 1].map((layer) => ({
      layer,
      name: "",
      value: 4,
      min: 2,
      max: 8,
      step: 1,
      choices: [2, 3, 4, 8],
      text: "4 bits",
    }));
    const opened = await openReady("plan", small({ click: "bits", counts: null, amounts }));
    await opened.tab.focus("[data-amounts] label:nth-child(2) input");
    await opened.tab.keyboard.press("ArrowRight");
    const { params } = await opened.answer("planEdit", { said: "" });
    expect(params).toEqual({ edit: { kind: "amount", layer: 1, name: "", value: 8 } });
    await opened.tab.click("[data-figure=plan] .plot-frame", { position: { x: 100, y: 40 } });
    expect((await opened.answer("planEdit", { said: "" })).params).toMatchObject({ edit: { kind: "expert" } });
    await opened.close();
  });

  it("moves an expert between merge groups", async () => {
    const groups = Array.from({ length: 4 }, () => [
      { members: [0, 1, 2, 3], dominant: 1 },
      { members: [4, 5, 6, 7], dominant: 6 },
    ]);
    const opened = await openReady("plan", small({ click: "group", counts: null, amounts: [], groups }));
    await pressAt(opened, 2, 2);
    expect(await opened.tab.textContent("[data-cell]")).toMatch(/Group0, 1, 2, 3Router row ofexpert 1/);
    await opened.tab.click("[data-cell] vscode-button:text('Move there')");
    expect((await opened.answer("planEdit", { said: "" })).params).toEqual({
      edit: { kind: "regroup", layer: 2, expert: 2, to: 6 },
    });
    await opened.tab.click("[data-cell] vscode-button:text('Take out of its group')");
    expect((await opened.answer("planEdit", { said: "" })).params).toMatchObject({ edit: { to: null } });
    await opened.close();
  });

  it("edits nothing where it may not, and offers the way out", async () => {
    const opened = await openReady("plan", { ...small(), readOnly: "This is what the run r did; edit a copy" });
    await pressAt(opened, 1, 1);
    expect((await opened.posted()).filter((m) => m.type === "request")).toEqual([]);
    expect(await opened.tab.isDisabled("[data-amounts] input")).toBe(true);
    await opened.tab.click("vscode-button:text('Edit a copy')");
    expect((await opened.answer("planAction", null)).params).toEqual({ action: "editCopy" });
    const unfit = { ...small({ problem: "The plan names layer 9", sizes: null }) };
    await opened.send(hydrate("plan", unfit));
    expect(await opened.tab.textContent("[role=alert]")).toContain("The plan names layer 9");
    expect(await opened.tab.locator("vscode-button:text('Compress with')").count()).toBe(0);
    await opened.close();
  });

  it("shows the difference to another plan", async () => {
    const other = small();
    const [scores, kept] = other.view.maps;
    const values = kept!.values.map((value, cell) => (cell < 2 ? 1 - value! : value));
    const opened = await openReady("plan", {
      ...small(),
      other: { name: "frequency-0.5", view: { ...other.view, maps: [scores!, { ...kept!, values }] } },
    });
    expect(await opened.tab.textContent(".figure-note")).toContain("2 cells in 1 layers differ from frequency-0.5.");
    await choose(opened, "Colour", "Difference to the other plan");
    const rows = await tableOf(opened, "plan");
    expect(rows[0]!.slice(1).filter((cell) => cell !== "0")).toHaveLength(2);
    expect(rows[1]!.slice(1).every((cell) => cell === "0")).toBe(true);
    expect(await seriousFindings(opened.tab)).toEqual([]);
    await opened.close();
  });

  it.each([500, 1000, 1440])("fits a window of %d pixels", async (width) => {
    const opened = await open("plan", { width, theme: width === 500 ? "light" : "dark" });
    await opened.send(hydrate("plan"));
    await opened.screenshot(`plan-${width}`);
    expect(await opened.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")).toBe(true);
    await opened.close();
  });
});

describe("differences of plans", () => {
  it("are taken by layer and expert, not by place", () => {
    const own = small().view;
    const shifted = { ...own, layers: [1, 2, 3, 4] };
    const map = differenceMap(own, shifted, english)!;
    const width = 8;
    expect(map.values.slice(0, width)).toEqual(new Array(width).fill(null));
    const [first] = own.maps.slice(1);
    expect(map.values[width]).toBe(first!.values[width]! - first!.values[0]!);
    expect(countDifferences(differenceMap(own, own, english))).toEqual({ cells: 0, layers: 0 });
    expect(differenceMap(own, { ...own, maps: [{ ...own.maps[1]!, id: "bits" }] }, english)).toBeNull();
  });
});
