/** The Similarity panel. */
import { expect, it } from "vitest";
import * as samples from "./samples";
import { choose, parseNumber, tableOf, usePages } from "./usePages";

const { openReady } = usePages();

it("order stated, matrix reordered, another layer asked for", async () => {
  const shown = samples.similarity(4, "router-logit-cosine", 12);
  const opened = await openReady("similarity", shown);
  const heading = "[data-figure=similarity] h2";
  expect(await opened.tab.textContent(heading)).toBe("Router-logit cosine similarity, layer 4, dendrogram order");
  const rows = await tableOf(opened, "similarity");
  expect(rows.map((row) => Number(row[0]))).toEqual(shown.dendrogramOrder);
  const [first, second] = shown.dendrogramOrder;
  expect(parseNumber(rows[0]![2]!)).toBeCloseTo(shown.matrix.values[first! * 12 + second!]!, 4);
  await choose(opened, "Order", "Expert index");
  expect(await opened.tab.textContent(heading)).toContain("index order");
  const indexed = await opened.cells("[data-figure=similarity]");
  expect(parseNumber(indexed[3]![8]!)).toBeCloseTo(shown.matrix.values[3 * 12 + 7]!, 4);

  await choose(opened, "Layer", "Layer 7");
  const next = samples.similarity(7, "router-logit-cosine", 12);
  const asked = await opened.answer("similarity", next);
  expect(asked.params).toEqual({ layer: 7, metric: "router-logit-cosine" });
  expect(await opened.tab.textContent(heading)).toContain("layer 7");
  const other = await opened.cells("[data-figure=similarity]");
  expect(parseNumber(other[3]![8]!)).toBeCloseTo(next.matrix.values[3 * 12 + 7]!, 4);
  expect(await opened.savedState()).toMatchObject({ view: { order: "index", layer: 7 } });
  await opened.close();
});
