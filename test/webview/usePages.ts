import { afterAll, beforeAll, expect } from "vitest";
import type { ToPage } from "../../src/protocol/pageMessages";
import type { PageName } from "../../src/protocol/pageData";
import { PageHarness, type OpenOptions, type PageUnderTest } from "./harness";
import * as samples from "./samples";

/** What each page is shown with unless a test says otherwise. */
const data: Record<PageName, unknown> = {
  routing: samples.routing(),
  divergence: samples.divergence(),
  similarity: samples.similarity(),
  calibration: samples.calibration(),
  tradeOff: samples.tradeOff(),
  overview: samples.overview(),
  tensors: samples.tensors(),
  plan: samples.plan(),
  text: samples.text(),
  workers: samples.workers(),
  playground: samples.playground(),
  distillation: samples.distillation(),
};
export const pages = Object.keys(data) as PageName[];

export const hydrate = (
  page: PageName,
  value: unknown = data[page],
  more: object = {},
  others?: { directory: string; name: string; data: unknown }[],
): ToPage =>
  ({
    ...(others ? { others } : {}),
    type: "hydrate",
    page,
    context: { ...samples.context, ...more },
    data: value,
    empty: null,
  }) as unknown as ToPage;

/**
 * A browser with the pages for one test file, from before its first test until after its last.
 * @param library whose components the pages have; default: REROUTE_COMPONENTS, or the toolkit
 */
export function usePages(library?: string): {
  /** A page that has not been sent anything. */
  open: (page: PageName, options?: OpenOptions) => Promise<PageUnderTest>;
  /** A page that shows `value`, or else its sample. */
  openReady: (page: PageName, value?: unknown, state?: unknown) => Promise<PageUnderTest>;
} {
  let harness: PageHarness;
  beforeAll(async () => {
    harness = await PageHarness.start(library);
  });
  afterAll(() => harness.stop());
  return {
    open: (page, options) => harness.open(page, options),
    openReady: async (page, value, state = null) => {
      const size = page === "overview" ? { width: 320, height: 700 } : {};
      const opened = await harness.open(page, { ...size, state });
      await opened.send(hydrate(page, value ?? data[page]));
      expect(await opened.troubles()).toEqual([]);
      await opened.tab.waitForSelector("body[data-state=ready]");
      return opened;
    },
  };
}

/** Shows the table of a figure and returns what it displays. */
export async function tableOf(opened: PageUnderTest, figure: string): Promise<string[][]> {
  await opened.tab.click(`[data-figure=${figure}] button:text-is("Table")`);
  return opened.cells(`[data-figure=${figure}]`);
}

/** Picks an option of a dropdown by keyboard-free clicks, as a user would; of whichever library it is. */
export async function choose(opened: PageUnderTest, label: string, option: string): Promise<void> {
  const [toolkit, elements] = [`vscode-dropdown[aria-label="${label}"]`, `vscode-single-select[label="${label}"]`];
  await opened.tab.click(`${toolkit}, ${elements}`);
  await opened.tab.click(
    `${toolkit} vscode-option:text-is("${option}"), ${elements} li[role=option]:has-text("${option}")`,
  );
  await opened.settle();
}

/** Reads "–", "0.012" and "3.1·10⁻⁴". */
export function parseNumber(text: string): number | null {
  if (text === "–") return null;
  const [mantissa, power] = text.split("·10");
  const exponent = (power ?? "⁰").replace(/./g, (c) => "-0123456789"["⁻⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(c)]!);
  return Number(mantissa) * 10 ** Number(exponent);
}
