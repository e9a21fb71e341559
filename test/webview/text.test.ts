import { describe, expect, it } from "vitest";
import { expertColour, scaleColour, textOn } from "../../webview/common/tokenColours";
import { seriousFindings } from "../support/axe";
import * as samples from "./samples";
import { choose, hydrate, usePages } from "./usePages";

const { open, openReady } = usePages();
const small = samples.text(4, 40, 8, 2);
const current = "document.querySelector('.token.current')?.textContent";

describe("the text's page", () => {
  it("reads by arrow keys, and opens the token's expert", async () => {
    const opened = await openReady("text", small);
    await opened.tab.focus(".token-text");
    for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft", "End", "Home", "ArrowRight"])
      await opened.tab.keyboard.press(key);
    expect(await opened.tab.evaluate(current)).toBe("·router");
    const [first, second] = small.experts.slice(2, 4);
    expect(await opened.tab.textContent("[data-announcer]")).toMatch(
      new RegExp(`^·router: experts ${first!} .*, ${second!} `),
    );
    await opened.tab.keyboard.press("Enter");
    const { params } = await opened.answer("expert", samples.expert(4, first));
    expect(params).toEqual({ layer: 4, expert: first });
    expect(await opened.tab.textContent("[data-top-tokens] li")).toBe("0.9 sends·each·token·to·a·few↵");
    expect(await opened.tab.textContent("[data-note]")).toMatch(/Underlined: routed to expert \d \(\d+ of 40 tokens\)/);
    const marked = await opened.tab.locator(".token.marked").count();
    const routed = small.tokens.filter((_, i) => small.experts.slice(2 * i, 2 * i + 2).includes(first!)).length;
    expect(marked).toBe(routed);
    expect(await seriousFindings(opened.tab)).toEqual([]);
    await opened.close();
  });

  it("follows the layer that another panel selects, and colours by what is chosen", async () => {
    const opened = await openReady("text", small);
    await opened.send({ type: "select", layer: 7, expert: 3 });
    const { params } = await opened.answer("text", { ...samples.text(7, 40, 8, 2) });
    expect(params).toEqual({ layer: 7 });
    await choose(opened, "Colour", "Entropy of the routing distribution");
    expect(await opened.tab.textContent("[data-note]")).toContain("2.08 nats");
    await opened.tab.click("summary");
    const rows = await opened.cells("details");
    expect(rows[0]!.slice(0, 3)).toEqual(["0", "·the", samples.text(7, 40, 8, 2).experts.slice(0, 2).join(" ")]);
    await opened.close();
  });

  it("shows the evaluated text too, each token by how it was predicted", async () => {
    const text = {
      ...{ sequenceLength: 3, tokens: ["a", "b", "", "c", "d", "e"] },
      before: { nll: [null, 2, null, null, 3, 1], kl: [null, 0.5, null, null, 1, 0.25] },
      after: { nll: [null, 1.5, null, null, 2, 1], kl: [null, 0.25, null, null, 0.5, 0.5] },
    };
    const opened = await openReady("text", { ...small, evaluated: text });
    await choose(opened, "Text", "Evaluation text");
    const tokens = opened.tab.locator(".token");
    expect(await tokens.allTextContents()).toEqual(["a", "b"]);
    expect(await opened.tab.textContent("[data-note]")).toContain("Mean of this sequence: 0.25 nats.");
    expect(await tokens.nth(1).getAttribute("title")).toBe(
      "b: KL to the teacher after calibration 0.25; KL to the teacher before calibration 0.5; Change of KL by calibration -0.25; Loss of the student 1.5 nats",
    );
    expect(await tokens.nth(0).getAttribute("title")).toContain("which nothing predicts");
    await choose(opened, "Sequence", "2 of 2");
    await choose(opened, "Colour", "Change of KL by calibration");
    expect(await tokens.allTextContents()).toEqual(["c", "d", "e"]);
    const colours = await opened.tab.evaluate<string[]>(
      "[...document.querySelectorAll('.token')].map((span) => span.style.background)",
    );
    expect(colours).toEqual(["transparent", expect.stringMatching(/^rgb/), expect.stringMatching(/^rgb/)]);
    // Violet: nearer to the teacher; orange: further.
    const channels = colours.slice(1).map((colour) => colour.match(/\d+/g)!.map(Number));
    expect(channels[0]![2]).toBeGreaterThan(channels[0]![0]!);
    expect(channels[1]![0]).toBeGreaterThan(channels[1]![2]!);
    await opened.tab.click("summary");
    expect(await opened.cells("details")).toEqual([
      ["3", "c", "–", "–", "–", "–"],
      ["4", "d", "0.5", "1", "-0.5", "2"],
      ["5", "e", "0.5", "0.25", "0.25", "1"],
    ]);
    await opened.screenshot("text-evaluated");
    expect(await seriousFindings(opened.tab)).toEqual([]);
    await choose(opened, "Text", "Calibration text");
    expect(await tokens.count()).toBe(40);
    await opened.close();
  });

  it("leaves padding out", async () => {
    const experts = small.experts.map((expert, at) => (at >= 30 * 2 ? -1 : expert));
    const opened = await openReady("text", { ...small, experts });
    expect(await opened.tab.locator(".token").count()).toBe(30);
    await opened.close();
  });

  it.each([500, 1440])("fits a window of %d pixels", async (width) => {
    const opened = await open("text", { width, theme: width === 500 ? "light" : "dark" });
    await opened.send(hydrate("text"));
    await opened.tab.click(".token:nth-child(5)");
    await opened.answer("expert", samples.expert());
    await opened.screenshot(`text-${width}`);
    expect(await opened.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")).toBe(true);
    await opened.close();
  });
});

describe("the expert's panel", () => {
  it("opens beside the chart, follows what is chosen, and closes by Escape", async () => {
    const opened = await openReady("routing");
    await opened.send({ type: "select", layer: 3, expert: 5 });
    expect(await opened.tab.isVisible("[data-expert]")).toBe(false);
    await opened.tab.focus("[data-figure=utilisation] .plot-frame");
    await opened.tab.keyboard.press("ArrowDown");
    await opened.tab.keyboard.press("Enter");
    expect((await opened.answer("expert", samples.expert(4, 5))).params).toEqual({ layer: 3, expert: 5 });
    const shown = await opened.tab.textContent("[data-expert]");
    expect(shown).toContain("Dropped: its score by reap takes place 97 of 128, 80 stay");
    expect(shown).toContain("900 of 10,000 tokens (9 %)");
    await opened.screenshot("routing-expert");
    expect(await seriousFindings(opened.tab)).toEqual([]);
    // The nearest of the other experts comes first, and opens.
    const values = samples.expert(4, 5).similar[0]!.values;
    const nearest = values
      .flatMap((value, e) => (e === 5 ? [] : [{ value: value!, e }]))
      .sort((a, b) => b.value - a.value)[0]!.e;
    const table = "[data-expert] .table-scroll:last-of-type";
    expect((await opened.cells(table))[0]![0]).toBe(String(nearest));
    await opened.tab.click(`${table} tbody tr`);
    expect((await opened.answer("expert", null)).params).toMatchObject({ expert: nearest });
    expect(await opened.tab.textContent("[data-expert]")).toContain("knows no such expert");
    await opened.tab.focus("[data-expert] button");
    await opened.tab.keyboard.press("Escape");
    expect(await opened.tab.isVisible("[data-expert]")).toBe(false);
    await opened.close();
  });

  it.each(["similarity", "divergence"] as const)("opens in %s too, and shows hostile tokens inert", async (page) => {
    const opened = await openReady(page);
    const figure = page === "similarity" ? "similarity" : "kl";
    await opened.tab.focus(`[data-figure=${figure}] .plot-frame`);
    await opened.tab.keyboard.press("ArrowDown");
    await opened.tab.keyboard.press("Enter");
    const token = { ...samples.expert().top![0]!, token: "<img src=x onerror=alert(1)>\u202e" };
    await opened.answer("expert", samples.expert(0, 0, { top: [token], domains: [], fate: null }));
    expect(await opened.tab.textContent("[data-top-tokens]")).toContain("<img·src=x·onerror=alert(1)>⟨U+202E⟩");
    expect(await opened.tab.locator("img").count()).toBe(0);
    await opened.close();
  });
});

describe("colours of tokens", () => {
  it("are told apart, and text on them contrasts 4.5 to 1 at least", () => {
    const luminance = (rgb: readonly number[]): number => {
      const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4)) as [
        number,
        number,
        number,
      ];
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    for (let i = 0; i < 256; i++)
      for (const colour of [
        expertColour(i, true),
        expertColour(i, false),
        scaleColour(i / 255, "viridis"),
        scaleColour(i / 255, "greys"),
      ]) {
        const text = textOn(colour) === "#000000" ? 0 : 1;
        const [low, high] = [luminance(colour), text].sort((a, b) => a - b) as [number, number];
        expect((high + 0.05) / (low + 0.05)).toBeGreaterThanOrEqual(4.5);
      }
    expect(new Set(Array.from({ length: 128 }, (_, e) => expertColour(e, true).join())).size).toBeGreaterThan(120);
  });
});
