/** Pages as wide as a whole screen. */
import { expect, it } from "vitest";
import type { PageName } from "../../src/protocol/pageMessages";
import { hydrate, usePages } from "./usePages";

const { open } = usePages();

async function openWide(page: PageName) {
  const opened = await open(page, { width: 1440, height: 900 });
  await opened.send(hydrate(page));
  await opened.settle();
  return opened;
}

/** Where the plot of each small figure stands: [top of its row's figures, bottom of the plot], in pixels. */
const plots = `[...document.querySelectorAll(".figures > .figure")].map((figure) => [
  Math.round(scrollY + figure.getBoundingClientRect().top),
  Math.round(scrollY + figure.querySelector(".plot-frame").getBoundingClientRect().bottom),
])`;

it.each(["routing", "divergence"] as const)(
  "%s: the axes of a row stand on one line, and plots keep to their titles beside an open table",
  async (page) => {
    const opened = await openWide(page);
    const shut: [number, number][] = await opened.tab.evaluate(plots);
    const rows = new Set(shut.map(([top]) => top));
    expect(rows.size).toBeLessThan(shut.length);
    expect(new Set(shut.map(String)).size).toBe(rows.size);
    await opened.tab.click(".figures > .figure:first-child button:text-is('Table')");
    await opened.settle();
    const beside: [number, number][] = await opened.tab.evaluate(plots);
    const [, first] = beside[0]!;
    for (const [top, bottom] of beside.filter(([top]) => top === beside[0]![0]))
      expect(Math.abs(bottom - first), String(top)).toBeLessThan(40);
    await opened.tab.click(".figures > .figure:first-child button:text-is('Table')");
    await opened.settle();
    expect(await opened.tab.evaluate(plots)).toEqual(shut);
    expect(await opened.troubles()).toEqual([]);
    await opened.close();
  },
);

it("similarity: the buttons of a plot that does not fill the page stand beside it", async () => {
  const opened = await openWide("similarity");
  const right = (selector: string): Promise<number> =>
    opened.tab.evaluate(`document.querySelector("${selector}").getBoundingClientRect().right`);
  expect(await right(".plot-frame")).toBeLessThan(800);
  expect(await right(".figure-actions")).toBeCloseTo(await right(".plot-frame"), 0);
  expect(await opened.troubles()).toEqual([]);
  await opened.close();
});
