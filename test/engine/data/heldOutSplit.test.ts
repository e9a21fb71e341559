import { expect, test } from "vitest";
import { heldOutCount, splitHeldOut } from "../../../src/engine/data/heldOutSplit";
import type { TokenSequences } from "../../../src/engine/data/sequences";

/** Sequence s holds the ids 10 s and 10 s + 1. */
function numbered(numSequences: number): TokenSequences {
  const ids = Int32Array.from({ length: 2 * numSequences }, (_, i) => 10 * (i >> 1) + (i & 1));
  const lengths = new Int32Array(numSequences).fill(2);
  return {
    ids,
    numSequences,
    sequenceLength: 2,
    lengths,
    domainIds: new Uint8Array(ids.length),
    domainNames: ["a"],
    sourceSha256: "",
  };
}

const sequencesOf = (part: TokenSequences | null) =>
  part ? Array.from({ length: part.numSequences }, (_, s) => part.ids[2 * s]! / 10) : [];

test.each<[string, number, number, number, number[], number[]]>([
  ["behind the training ones", 10, 8, 0.25, [0, 1, 2, 3, 4, 5, 6, 7], [8, 9]],
  ["more text than asked for is not used", 12, 8, 0.25, [0, 1, 2, 3, 4, 5, 6, 7], [8, 9]],
  ["too short: carved from the end", 10, 10, 0.25, [0, 1, 2, 3, 4, 5, 6, 7], [8, 9]],
  ["much too short", 5, 100, 0.25, [0, 1, 2, 3], [4]],
  ["at least one", 3, 2, 0.01, [0, 1], [2]],
  ["at least one, carved", 2, 2, 0.01, [0], [1]],
  ["training is never empty", 2, 50, 0.99, [0], [1]],
  ["nothing held out", 4, 3, 0, [0, 1, 2], []],
  ["at most two", 20, 10, 0.5, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [10, 11]],
  ["at most two, carved", 8, 10, 0.9, [0, 1, 2, 3, 4, 5], [6, 7]],
])("%s", (_, present, trainingCount, fraction, training, heldOut) => {
  const most = 2;
  const split = splitHeldOut(numbered(present), trainingCount, fraction, most);
  expect(sequencesOf(split.training)).toEqual(training);
  expect(sequencesOf(split.heldOut)).toEqual(heldOut);
});

test.each<[string, number[], number, number[], boolean]>([
  ["the document goes on into the first sequence behind", [1, 1, 1, 1, 2, 2, 3, 3], 1, [2], false],
  ["a document begins inside the first sequence behind", [1, 1, 1, 2, 3, 3], 1, [2], false],
  ["a document begins with it", [1, 1, 2, 2, 2, 2], 1, [1], false],
  ["one long document", [1, 1, 1, 1, 1, 1], 1, [1], true],
])("held-out sequences begin with a document: %s", (_, documents, training, heldOut, sharesDocument) => {
  const all = { ...numbered(documents.length / 2), documentIds: Int32Array.from(documents) };
  const split = splitHeldOut(all, training, 0.99, 32);
  expect(sequencesOf(split.training)).toEqual([0]);
  expect(sequencesOf(split.heldOut)).toEqual(heldOut);
  expect(split.sharesDocument).toBe(sharesDocument);
});

test.each([
  ["the paper's 3000 sequences", 3000, 0.05, 32, 32],
  ["a share that stays below", 512, 0.05, 32, 26],
  ["one at least", 3, 0.05, 32, 1],
  ["none", 3000, 0, 32, 0],
])("held-out sequences of %s", (_, trainingCount, fraction, most, count) => {
  expect(heldOutCount(trainingCount, fraction, most)).toBe(count);
});

test("no sequence is on both sides and none of a short text is lost", () => {
  const most = 20;
  for (let present = 2; present <= 60; present++) {
    for (const trainingCount of [1, 2, 7, 30, 100]) {
      for (const fraction of [0.001, 0.05, 0.1, 0.3, 0.5, 0.9]) {
        const { training, heldOut } = splitHeldOut(numbered(present), trainingCount, fraction, most);
        const both = [...sequencesOf(training), ...sequencesOf(heldOut)];
        const wanted = heldOutCount(trainingCount, fraction, most);
        const expected = Math.min(present, trainingCount + wanted);
        expect(both).toEqual(Array.from({ length: expected }, (_, s) => s));
        expect(training.numSequences).toBeGreaterThan(0);
        expect(heldOut!.numSequences).toBeGreaterThan(0);
        expect(heldOut!.numSequences).toBeLessThanOrEqual(wanted);
      }
    }
  }
});

test.each([
  ["one sequence", 1, 0.1, "data/too-few-tokens"],
  ["fraction 1", 4, 1, "arguments/invalid"],
  ["negative", 4, -0.1, "arguments/invalid"],
  ["NaN", 4, NaN, "arguments/invalid"],
])("refused: %s", (_, present, fraction, code) => {
  expect(() => splitHeldOut(numbered(present), 3, fraction, 32)).toThrow(expect.objectContaining({ code }) as Error);
});
