/** Runs beside each other, in every panel of one run. */
import { describe, expect, it } from "vitest";
import type { PageName } from "../../src/protocol/pageData";
import { minus, sharedScale } from "../../webview/common/compareScale";
import { seriousFindings } from "../support/axe";
import * as samples from "./samples";
import { choose, hydrate, tableOf, usePages } from "./usePages";

const { open, openReady } = usePages();

const [own, second, third] = ["/w/.reroute/runs/1", "/w/.reroute/runs/2", "/w/.reroute/runs/3"] as const;
const runs = [
  { directory: own, name: "olmoe-reap-0.625" },
  { directory: second, name: "frequency" },
  { directory: third, name: "svd" },
];
const source = { kind: "run", runDirectory: own, compareWith: [second] };
const other = (data: unknown) => [{ directory: second, name: "frequency", data }];

const small: [PageName, () => unknown, () => unknown, string][] = [
  ["routing", () => samples.routing(4, 8), () => twice(samples.routing(4, 8)), "utilisation"],
  ["divergence", () => samples.divergence(4, 8), () => samples.divergence(4, 8), "kl"],
  [
    "similarity",
    () => samples.similarity(4, "output-cosine", 8),
    () => samples.similarity(4, "output-cosine", 8),
    "similarity",
  ],
];

/** The same with every count and share of the first cell doubled. */
function twice(data: ReturnType<typeof samples.routing>) {
  for (const { utilisation } of Object.values(data.byDomain)) utilisation.values[0] = 2 * utilisation.values[0]!;
  return data;
}

describe("which runs a panel shows", () => {
  it("is asked of the host: another one, another beside it, none beside it", async () => {
    const opened = await openReady("divergence");
    expect(await opened.tab.isVisible("[data-runs]")).toBe(false);
    await opened.send(
      hydrate("divergence", samples.divergence(4, 8), { runs, source: { kind: "run", runDirectory: own } }),
    );
    const asked = async () => (await opened.posted()).at(-1);
    await choose(opened, "Compare with", "svd");
    expect(await asked()).toMatchObject({ method: "showRuns", params: { runDirectory: own, compareWith: [third] } });
    await opened.send(
      hydrate("divergence", samples.divergence(4, 8), { runs, source }, other(samples.divergence(4, 8))),
    );
    // The run that is beside it comes to the front, and they change places.
    await choose(opened, "Run", "frequency");
    expect(await asked()).toMatchObject({ params: { runDirectory: second, compareWith: [own] } });
    await choose(opened, "Compare with", "No other run");
    expect(await asked()).toMatchObject({ params: { runDirectory: own, compareWith: [] } });
    await opened.close();
  });
});

describe("maps", () => {
  it.each(small)("%s: beside each other on one scale, then as a difference", async (page, mine, theirs, figure) => {
    const opened = await openReady(page, mine());
    await opened.send(hydrate(page, mine(), { runs, source }, other(theirs())));
    const figures = opened.tab.locator(`[data-figure^=${figure}]`);
    expect(await figures.count()).toBe(2);
    expect(await figures.nth(1).locator("h2").textContent()).toMatch(/^frequency: /);
    expect(await opened.tab.textContent(`[data-figure=${figure}] .figure-note`)).toContain(
      "One colour scale for all runs.",
    );
    expect(await seriousFindings(opened.tab)).toEqual([]);
    await opened.tab.click("[data-compare] button:text-is('Difference')");
    expect(await figures.first().isVisible()).toBe(false);
    const rows = await tableOf(opened, `${figure}-2`);
    const cells = rows.flatMap((row) => row.slice(1)).filter((cell) => cell !== "–");
    const first = cells[0]!;
    // Only the doubled cell differs.
    if (page === "routing") expect(Number.parseFloat(first.replace("−", "-"))).toBeLessThan(0);
    expect(cells.slice(page === "routing" ? 1 : 0).every((cell) => Number.parseFloat(cell) === 0)).toBe(true);
    await opened.screenshot(`compare-${page}`);
    expect(await opened.troubles()).toEqual([]);
    await opened.close();
  });

  it("of other shapes have no difference, and say so", async () => {
    const opened = await openReady("routing", samples.routing(4, 8));
    await opened.send(hydrate("routing", samples.routing(4, 8), { runs, source }, other(samples.routing(3, 6))));
    expect(await opened.tab.isDisabled("[data-compare] button:text-is('Difference')")).toBe(true);
    expect(await opened.tab.textContent("main")).toContain("The runs have other layers or experts");
    await opened.close();
  });

  it("a run without such data is named", async () => {
    const opened = await openReady("routing", samples.routing(4, 8));
    await opened.send(hydrate("routing", samples.routing(4, 8), { runs, source }, other(null)));
    expect(await opened.tab.textContent(".notice[role=status]")).toBe("No such data yet: frequency");
    await opened.close();
  });

  it("similarity asks for the same layer of every run", async () => {
    const data = samples.similarity(4, "output-cosine", 8);
    const opened = await openReady("similarity", data);
    await opened.send(hydrate("similarity", data, { runs, source }, other(data)));
    await choose(opened, "Layer", "Layer 7");
    const next = samples.similarity(7, "output-cosine", 8);
    const asked = [await opened.answer("similarity", next), await opened.answer("similarity", next)];
    const directories = asked.map(({ params }) => (params as { runDirectory?: string }).runDirectory);
    expect(directories.sort()).toEqual([second, undefined]);
    expect(await opened.tab.textContent("[data-figure=similarity-2] h2")).toContain("layer 7");
    await opened.close();
  });
});

describe("Router KD", () => {
  it("puts the held-out curves of other runs into one chart, and leaves those of another loss out", async () => {
    const shown = samples.calibration(20);
    const opened = await openReady("calibration", shown);
    await opened.send(hydrate("calibration", shown, { runs, source }, other(shown)));
    await tableOf(opened, "loss");
    expect(await opened.tab.textContent("[data-figure=loss] thead")).toContain("held-out, frequency");
    await opened.send(hydrate("calibration", shown, { runs, source }, other({ ...shown, loss: "lm" })));
    expect(await opened.tab.textContent("[data-figure=loss] thead")).not.toContain("frequency");
    expect(await opened.tab.textContent("main")).toContain("1 of the other runs minimised another loss");
    await opened.close();
  });
});

it.each([
  [1440, "dark"],
  [1000, "light"],
  [500, "highContrast"],
] as const)("two runs at %s pixels, %s: nothing is wider than the window", async (width, theme) => {
  const opened = await open("routing", { width, theme: theme as "dark" });
  await opened.send(hydrate("routing", samples.routing(16, 64), { runs, source }, other(samples.routing(16, 64))));
  expect(await opened.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")).toBe(true);
  await opened.screenshot(`compare-routing-${width}`);
  await opened.close();
});

describe("numbers", () => {
  it("a difference has no value where one of both has none", () => {
    expect(minus([3, null, 1], [1, 1, null])).toEqual([2, null, null]);
  });
  it("a shared scale holds the values of all, and ends that a page has fixed", () => {
    const spec = { values: [0.2, null, 0.5], colours: { colours: "viridis" as const, min: 0 } };
    expect(sharedScale(spec, [{ values: [0.1, 0.9] }])).toEqual({ min: 0, max: 0.9, logMin: 0.1 });
    expect(sharedScale({ values: [null], colours: { colours: "viridis" } }, [])).toEqual({});
  });
});
