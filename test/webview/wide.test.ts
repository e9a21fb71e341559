/** Pages as wide as a whole screen. */
import { expect, it } from "vitest";
import type { PageName } from "../../src/protocol/pageData";
import { hydrate, usePages } from "./usePages";

const { open } = usePages();

async function openWide(page: PageName) {
  const opened = await open(page, { width: 1440, height: 900 });
  await opened.send(hydrate(page));
  await opened.settle();
  return opened;
}

/** Of each small figure, in pixels: top of the figure, bottom of its plot, and the space between its note and its plot. */
type Plot = { top: number; bottom: number; gap: number };
const plots = `[...document.querySelectorAll(".figures > .figure")].map((figure) => {
  const [plot, note] = [".plot-frame", ".figure-note"].map((part) => figure.querySelector(part).getBoundingClientRect());
  const top = scrollY + figure.getBoundingClientRect().top;
  return { top, bottom: scrollY + plot.bottom, gap: plot.top - note.bottom };
})`;

it.each(["routing", "divergence"] as const)(
  "%s: the axes of a row stand on one line, and plots keep to their titles beside an open table",
  async (page) => {
    const opened = await openWide(page);
    const look = (): Promise<Plot[]> => opened.tab.evaluate(plots);
    const shut = await look();
    const neighbours = shut.flatMap((plot, i) => {
      const next = shut[i + 1];
      return next && Math.abs(next.top - plot.top) < 1.5 ? [Math.abs(next.bottom - plot.bottom)] : [];
    });
    expect(neighbours).not.toEqual([]);
    expect(Math.max(...neighbours)).toBeLessThan(1.5);
    // In the row of the curves: the map stands in one of its own, beside those of other runs.
    const table = ".figures:has(> .figure + .figure) > .figure:first-child button:text-is('Table')";
    await opened.tab.click(table);
    await opened.settle();
    for (const { gap } of await look()) expect(gap).toBeLessThan(20);
    await opened.tab.click(table);
    await opened.settle();
    expect((await look()).map(({ bottom }) => bottom)).toEqual(shut.map(({ bottom }) => bottom));
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
