import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { attentionBytes, feedForwardBytes, headBytes, workingSetBytes } from "../../../src/engine/execution/workingSet";
import type { Work } from "../../../src/engine/execution/workingSet";
import type { ModelDescription } from "../../../src/engine/model/description";
import { openModel } from "../../support/tinyModels";

/** Hidden 128, 4 query and 2 key-value heads of 32, 2 of 8 experts of 192 a token, vocabulary 2048, bf16. */
let description: ModelDescription;
beforeAll(async () => {
  description = (await openModel(path.join(__dirname, "../../fixtures/coarse"))).description;
});
const work = (sequenceLength: number, direction: Work["direction"] = "forward"): Work => ({
  ...{ description, sequenceLength, direction },
  trained: undefined,
});

/** Projections before and after rotation, and eight hidden-sized rows. */
const rowsOfToken = 3 * (4 + 2 * 2) * 32 + 8 * 128;
const largestWeight = 4 * 4 * 192 * 128;

it.each<[string, () => number, number]>([
  [
    "attention forward holds the scores of a quarter of the queries",
    () => attentionBytes(work(512), 2),
    2 * 4 * (3 * 4 * 128 * 512 + 512 * rowsOfToken),
  ],
  [
    "attention of short sequences is one block",
    () => attentionBytes(work(64), 1),
    4 * (3 * 4 * 64 * 64 + 64 * rowsOfToken),
  ],
  [
    "attention backward holds the scores of all queries",
    () => attentionBytes(work(512, "backward"), 1),
    2.2 * 4 * (3 * 4 * 512 * 512 + 512 * rowsOfToken),
  ],
  [
    "experts: output rows of the one group, and one widened weight",
    () => feedForwardBytes(work(512), 1),
    512 * 4 * (2 * 128 + 8 * 128) + largestWeight,
  ],
  ["the head: widened weights, and logits", () => headBytes(work(512), 10), 2048 * 128 * 4 + 10 * 2048 * 4 * 7],
  [
    "the largest run counts, and the rows of two experts a token",
    () => workingSetBytes(work(512), { attentionSequences: 1, chunkSequences: 1, headPositions: 1000 }),
    2048 * 128 * 4 + 1000 * 2048 * 4 * 7 + 512 * 2 * 128 * 4,
  ],
])("%s", (_what, bytes, expected) => {
  expect(bytes()).toBeCloseTo(expected, 3);
});
