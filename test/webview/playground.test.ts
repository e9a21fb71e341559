import { describe, expect, it } from "vitest";
import type { PlaygroundRun } from "../../src/protocol/playground";
import { asJson, asMarkdown } from "../../webview/playground/exported";
import { firstExperts, largestOf, scaleShare, speakerOf, valuesOf } from "../../webview/playground/colouring";
import { seriousFindings } from "../support/axe";
import * as samples from "./samples";
import { choose, hydrate, usePages } from "./usePages";

const { open, openReady } = usePages();
const sample = samples.playground();
const scores = sample.run!.scores!;

describe("what colours a token", () => {
  it("is its author's number, in the teacher's response the last student's", () => {
    expect([0, 1, 2].map((author) => speakerOf(author, 0, 3, "kl"))).toEqual([2, 1, 2]);
    expect([0, 1].map((author) => speakerOf(author, 1, 2, "kl"))).toEqual([0, 0]);
    expect([0, 1, 2].map((author) => speakerOf(author, 0, 3, "nll"))).toEqual([0, 1, 2]);
    expect(valuesOf(scores.texts[0]!, 0, "kl")).toEqual(scores.texts[0]!.pieces.map(() => null));
    expect(valuesOf(scores.texts[1]!, 2, "kl")).toEqual(scores.texts[1]!.models[2]!.kl);
    const shown = [scores.texts[0]!.models[2]!.kl!, scores.texts[1]!.models[1]!.kl!, scores.texts[2]!.models[2]!.kl!];
    expect(largestOf(scores, 0, "kl")).toBe(Math.max(...shown.flat()));
  });

  it("lies on the scale by its square root", () => {
    expect([0, 1, 4].map((value) => scaleShare(value, 4))).toEqual([0, 0.5, 1]);
    expect(scaleShare(0, 0)).toBe(0);
  });

  it("is the teacher's expert that a student's stands for", () => {
    const { experts } = scores.texts[1]!.models[1]!.routing!;
    const stands = [0, 2, 5, 6];
    expect(firstExperts(scores.texts[1]!, 1)).toEqual(
      scores.texts[1]!.pieces.map((_, token) => stands[experts[2 * token]!]),
    );
  });
});

describe("what is exported", () => {
  it("holds prompt, settings, responses, and every number", () => {
    const parsed = JSON.parse(asJson(sample)) as { responses: { text: string; scores: unknown }[]; scoredBy: string[] };
    expect(parsed.scoredBy).toEqual(sample.models.map(({ name }) => name));
    expect(parsed.responses[1]!.text).toBe(scores.texts[1]!.pieces.join(""));
    expect(parsed.responses[2]!.scores).toEqual(scores.texts[2]);
    const markdown = asMarkdown(sample);
    expect(markdown).toContain("> In the beginning");
    expect(markdown).toContain("temperature 0.8, top_k 0, top_p 0.95");
    expect(markdown).toContain("seed 7");
    const { kl } = scores.texts[1]!.models[1]!;
    const mean = kl!.reduce((sum, value) => sum + value, 0) / kl!.length;
    expect(markdown).toContain(`KL to the teacher ${Number(mean.toPrecision(4))}`);
  });
});

describe("the Playground's page", () => {
  const start = { ...sample, run: null };
  const press = (label: string) => `vscode-button:text-is("${label}")`;

  it("asks with settings under transformers' names, by keyboard, and keeps them", async () => {
    const opened = await openReady("playground", start);
    expect(await opened.tab.locator("[data-column]").count()).toBe(3);
    expect(await opened.tab.textContent("[data-column='0']")).toContain("which stay in memory");
    expect(await opened.tab.textContent("[data-column='1']")).toMatch(
      /larger than the free memory: a token reads .* from the disk, about 2\.5 s each/,
    );
    await opened.tab.fill("textarea >> nth=0", "In the beginning");
    await opened.tab.fill("label:has-text('seed') input", "9");
    await opened.tab.fill("label:has-text('max_new_tokens') input", "12");
    await opened.tab.focus("textarea >> nth=0");
    await opened.tab.keyboard.press("Control+Enter");
    const { params } = await opened.answer("playgroundStart", null);
    const { seed, maxNewTokens, ...rest } = sample.run!.question.options;
    expect(params).toEqual({
      ...{ prompt: "In the beginning", chat: false, system: "" },
      options: { ...rest, seed: 9, maxNewTokens: 12 },
    });
    expect([seed, maxNewTokens]).toEqual([7, 24]);
    expect(await opened.savedState()).toMatchObject({
      view: { prompt: "In the beginning", seed: 9, maxNewTokens: 12 },
    });
    // A setting that cannot be is not sent.
    await opened.tab.fill("label:has-text('top_p') input", "1.5");
    await opened.tab.click(press("Generate"));
    expect((await opened.posted()).filter((m) => m.type === "request" && m.method === "playgroundStart")).toHaveLength(
      1,
    );
    await opened.close();
  });

  it("streams, is cancelled at any moment, and colours once it has compared", async () => {
    const opened = await openReady("playground", start);
    const { question } = sample.run!;
    const run = (state: PlaygroundRun["state"], more: Partial<PlaygroundRun> = {}): PlaygroundRun => ({
      ...{ state, model: 0, question, scored: 0, scores: null, problem: null, ...more },
      columns: more.columns ?? sample.models.map(() => ({ tokens: [], finish: null, metrics: null })),
    });
    const update = (change: unknown) => opened.send({ type: "update", page: "playground", change } as never);
    await update({ run: run("waiting") });
    expect(await opened.tab.textContent("[data-column='0'] [data-column-state]")).toContain(
      "Waiting: the checkpoint is opened",
    );
    expect(await opened.tab.textContent("[data-column='1'] [data-column-state]")).toBe("Waiting for its turn");
    expect(await opened.tab.textContent("[data-status]")).toBe("Waiting · sampled with seed 7");
    await update({ run: run("generating") });
    await update({
      ...{ column: 0, from: 0 },
      tokens: [
        { id: 1, text: "the" },
        { id: 2, text: " router" },
      ],
    });
    await update({
      ...{ column: 0, from: 2 },
      tokens: [
        { id: 3, text: " sends" },
        { id: null, text: "" },
      ],
    });
    expect(await opened.tab.locator("[data-column='0'] .token").allTextContents()).toEqual([
      "the",
      "·router",
      "·sends",
    ]);
    expect(await opened.tab.textContent("[data-column='0'] [data-column-state]")).toBe("3 tokens so far");
    expect(await opened.tab.isDisabled("[data-column='0'] button:text-is('Replace')")).toBe(true);
    await opened.tab.focus("textarea >> nth=0");
    await opened.tab.keyboard.press("Escape");
    await opened.answer("playgroundCancel", null);
    await update({
      run: run("cancelled", {
        columns: [{ tokens: [{ id: 1, text: "the" }], finish: null, metrics: null }, ...run("done").columns.slice(1)],
      }),
    });
    expect(await opened.tab.textContent("[data-column='0'] [data-column-state]")).toBe("1 tokens, cancelled");
    expect(await opened.tab.isDisabled("[data-column='0'] button:text-is('Replace')")).toBe(false);
    await update({ run: sample.run });
    const coloured = "[data-column='1'] .token >> nth=3";
    expect(await opened.tab.getAttribute(coloured, "title")).toMatch(
      /−ln p coarse: .*KL coarse-reap \(before\): .*experts \d+ = teacher's \d/,
    );
    const background = await opened.tab.evaluate(
      "getComputedStyle(document.querySelectorAll(\"[data-column='1'] .token\")[3]).backgroundColor",
    );
    expect(background).not.toBe("rgba(0, 0, 0, 0)");
    await opened.close();
  });

  it("shows the numbers as a table, other layers, and exports", async () => {
    const opened = await openReady("playground", sample);
    await opened.tab.click("[data-column='2'] summary");
    const rows = await opened.cells('[data-column="2"]');
    const { models } = scores.texts[2]!;
    expect(rows).toHaveLength(24);
    expect(Number(rows[0]![2])).toBeCloseTo(models[0]!.nll[0]!, 3);
    await choose(opened, "Colour", "Expert with the largest routing weight");
    expect(await opened.tab.textContent("[data-legend]")).toContain("that of the teacher's expert");
    await choose(opened, "Layer", "Layer 1");
    const { params } = await opened.answer("playgroundLayer", { ...scores, layer: 1 });
    expect(params).toEqual({ layer: 1 });
    await opened.tab.click("button:text-is('Copy')");
    expect((await opened.answer("copy", null)).params).toEqual({ text: asMarkdown(sample) });
    await opened.tab.click("button:text-is('Markdown')");
    expect((await opened.answer("save", { saved: true })).params).toMatchObject({
      mime: "text/markdown",
      content: asMarkdown(sample),
    });
    await opened.tab.focus("[data-column='1'] .token-text");
    await opened.tab.keyboard.press("ArrowRight");
    expect(await opened.tab.textContent("[data-announcer]")).toMatch(/KL coarse-reap \(after\)/);
    expect(await opened.troubles()).toEqual([]);
    await opened.close();
  });

  it("says why nothing can be asked, and which checkpoint is meant", async () => {
    const broken = { ...sample.models[1]!, about: null, problem: "The model type bert is not supported" };
    const opened = await openReady("playground", { models: [sample.models[0], broken], run: null });
    expect(await opened.tab.textContent("[data-column='1'] .notice.error")).toContain("bert is not supported");
    await opened.tab.fill("textarea >> nth=0", "x");
    await opened.tab.keyboard.press("Control+Enter");
    expect((await opened.posted()).some((m) => m.type === "request" && m.method === "playgroundStart")).toBe(false);
    await opened.tab.click("[data-column='1'] button:text-is('Remove')");
    expect((await opened.answer("playgroundChange", null)).params).toEqual({ action: "remove", index: 1 });
    await opened.close();
  });

  it.each([500, 1440])("fits a window of %d pixels", async (width) => {
    const opened = await open("playground", { width, theme: width === 500 ? "light" : "dark" });
    await opened.send(hydrate("playground"));
    await opened.screenshot(`playground-${width}`);
    expect(await opened.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")).toBe(true);
    expect(await seriousFindings(opened.tab)).toEqual([]);
    await opened.close();
  });
});
