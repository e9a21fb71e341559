/** What all pages have in common: themes, emptiness, errors, messages that do not fit, names from files. */
import { describe, expect, it } from "vitest";
import type { ToPage } from "../../src/protocol/pageMessages";
import type { PageName } from "../../src/protocol/pageData";
import { errorCodes } from "../../src/protocol/errors";
import { seriousFindings } from "../support/axe";
import type { PageUnderTest } from "./harness";
import * as samples from "./samples";
import { themes, type ThemeName } from "./themes";
import { hydrate, pages, usePages } from "./usePages";

const { open, openReady } = usePages();

/** What makes the page scroll sideways: the outermost elements that reach beyond the window, and are not cut or scrolled by another. */
const overflow = (opened: PageUnderTest): Promise<string[]> =>
  opened.tab
    .evaluate(`document.documentElement.scrollWidth <= window.innerWidth ? [] : [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > window.innerWidth + 0.5)
    .map((one) => one.tagName + "." + one.className).slice(0, 5)`);

describe("every page", () => {
  it.each(pages)("%s draws in every theme, without violation and without serious axe finding", async (page) => {
    const opened = await openReady(page);
    expect((await opened.posted())[0]).toMatchObject({ type: "ready", page, state: { page } });
    for (const theme of Object.keys(themes) as ThemeName[]) {
      await opened.theme(theme);
      await opened.screenshot(`${page}-${theme}`);
      expect(await seriousFindings(opened.tab)).toEqual([]);
    }
    expect(await opened.troubles()).toEqual([]);
    await opened.close();
  });

  // Pictures of all widths and themes only on demand, to be looked at: REROUTE_SCREENSHOTS=1.
  it.each(pages)("%s fits windows of 1440, 1000 and 500 pixels, with every chart's table beside it", async (page) => {
    for (const width of [1440, 1000, 500]) {
      const opened = await open(page, { width, height: 1000 });
      await opened.send(hydrate(page));
      const pictured = process.env["REROUTE_SCREENSHOTS"] === "1" ? (["dark", "light", "highContrast"] as const) : [];
      for (const theme of pictured) {
        await opened.theme(theme);
        await opened.screenshot(`sizes/${page}-${width}-${theme}`);
      }
      expect(await overflow(opened), `${width}`).toEqual([]);
      const figures = await opened.tab.locator("[data-figure]:visible:has(canvas)").all();
      for (const figure of figures) await figure.locator("button:text-is('Table')").click();
      await opened.settle();
      for (const figure of figures) expect(await figure.locator("tbody tr").count()).toBeGreaterThan(0);
      expect(await overflow(opened), `${width}, with tables`).toEqual([]);
      if (width === 500) {
        expect(await seriousFindings(opened.tab)).toEqual([]);
        if (pictured.length > 0) await opened.screenshot(`sizes/${page}-${width}-tables`);
      }
      expect(await opened.troubles()).toEqual([]);
      await opened.close();
    }
  });

  it.each(pages)("%s: empty, error and retry", async (page) => {
    const opened = await open(page);
    const empty = { message: "There is no profile yet.", command: "profileRouting" as const };
    await opened.send({ ...hydrate(page, null), empty } as ToPage);
    expect(await opened.tab.getAttribute("body", "data-state")).toBe("empty");
    expect(await opened.tab.textContent(".notice.empty")).toContain("There is no profile yet.");
    await opened.tab.click("vscode-button");
    expect((await opened.posted()).at(-1)).toMatchObject({
      type: "request",
      method: "command",
      params: { command: "profileRouting", runDirectory: null },
    });
    await opened.send({ type: "error", code: "run/invalid", message: "run.json cannot be read" });
    expect(await opened.tab.textContent(".notice.error")).toContain("run.json cannot be read");
    expect(await opened.tab.textContent(".notice.error")).toContain("run/invalid");
    expect(Object.keys(errorCodes)).toContain("run/invalid");
    expect(await seriousFindings(opened.tab)).toEqual([]);
    await opened.tab.click("vscode-button:text('Retry')");
    expect((await opened.posted()).filter((message) => message.type === "ready")).toHaveLength(2);
    await opened.send(hydrate(page));
    expect(await opened.tab.getAttribute("body", "data-state")).toBe("ready");
    expect(await opened.troubles()).toEqual([]);
    await opened.close();
  });

  it("ignores unknown and malformed messages, and logs them", async () => {
    const opened = await openReady("divergence");
    await opened.sendRaw({ type: "execute", command: "rm" });
    await opened.sendRaw({ ...hydrate("divergence"), data: { teacher: 1 } });
    await opened.settle();
    expect(await opened.tab.getAttribute("body", "data-state")).toBe("ready");
    const logged = (await opened.posted()).filter((message) => message.type === "log");
    expect(logged).toHaveLength(2);
    expect(logged[1]).toMatchObject({ level: "warning", message: expect.stringContaining("data.teacher") as string });
    await opened.close();
  });
});

describe("hostile names", () => {
  const names = {
    markup: "<img src=x onerror=\"document.body.dataset.pwned='1'\">",
    path: "../../../../etc/passwd",
    long: "a".repeat(5000) + "MIDDLE" + "b".repeat(5000),
    bidi: "model\u202egpj.exe\u2066",
    formula: '=HYPERLINK("http://x")',
  };
  const all = Object.values(names);

  it("are inert, isolated and short in every page", async () => {
    const hostile: [PageName, unknown][] = [
      ["routing", { ...samples.routing(2, 4, all), checkpoint: names.markup }],
      [
        "divergence",
        {
          ...samples.divergence(2, 4),
          teacher: names.long,
          student: names.bidi,
          mapping: { kind: "kept", description: names.markup },
        },
      ],
      [
        "tradeOff",
        {
          points: samples
            .tradeOff()
            .points.map((point, i) => ({ ...point, label: all[i % 5]!, run: all[i % 5]!, method: all[(i + 1) % 5]! })),
        },
      ],
      [
        "overview",
        {
          ...samples.overview(),
          run: samples.run(names.markup, "failed", { error: { code: "internal", message: names.long } }),
          recentRuns: all.map((name) => samples.run(name, "done")),
        },
      ],
      [
        "tensors",
        {
          ...samples.tensors(1, 1),
          file: names.bidi,
          tensors: all.map((name) => ({ name, dtype: name, shape: [1], bytes: 4, shard: name })),
          summary: null,
          summaryError: names.markup,
        },
      ],
      ["calibration", { ...samples.calibration(3), verdict: { verdict: "worse", text: names.markup } }],
    ];
    for (const [page, value] of hostile) {
      const opened = await openReady(page, value);
      await opened.send(hydrate(page, value, { title: names.markup }));
      await opened.screenshot(`hostile-${page}`);
      expect(await opened.tab.locator("img").count(), page).toBe(0);
      expect(await opened.tab.getAttribute("body", "data-pwned"), page).toBeNull();
      const text: string = await opened.tab.evaluate("document.body.innerText");
      expect(text).toContain("<img src=x");
      expect(text).not.toContain("MIDDLE");
      expect(text).not.toMatch(/[\u202a-\u202e\u2066-\u2069]/);
      expect(await opened.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page).toBe(true);
      expect(await seriousFindings(opened.tab), page).toEqual([]);
      expect(await opened.troubles()).toEqual([]);
      await opened.close();
    }
  });

  it("show in full on demand, and do not become formulas", async () => {
    const rows = all.map((name) => ({ name, dtype: "F32", shape: [1], bytes: 4, shard: "s" }));
    const opened = await openReady("tensors", { ...samples.tensors(1, 1), tensors: rows });
    await opened.tab.click("[data-table] tbody tr:nth-child(3)");
    await opened.tab.click("section button:text('show all')");
    expect(await opened.tab.textContent("section h2")).toContain("aMIDDLEb");
    await opened.tab.click("button:text-is('CSV')");
    const { params } = await opened.answer("save", { saved: false });
    expect((params as { content: string }).content).toContain('"\'=HYPERLINK(""http://x"")"');
    await opened.close();
  });
});
