import { symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { sharedText, type TextPart } from "../../../src/engine/data/sharedText";
import { createRandom } from "../../../src/engine/tensor/random";
import { temporaryFolder } from "../../support/temporaryFolder";

const folder = temporaryFolder();
const part = (name: string, change: Partial<TextPart> = {}): TextPart => ({
  ...{ path: path.join(folder, name), sequences: 100, sequenceLength: 128, packing: "packed" },
  ...change,
});
/** Documents of words that no other seed gives. */
const prose = (seed: number, characters = 500) => {
  const random = createRandom(seed);
  const word = () => Array.from({ length: 3 + random.below(6) }, () => "etaoinshrdlu"[random.below(12)]!).join("");
  let text = word();
  while (text.length < characters) text += ` ${word()}`;
  return text;
};
let files = 0;
function write(documents: string[], ending = "jsonl"): string {
  const name = `${files++}.${ending}`;
  const lines =
    ending === "txt" ? documents.join("\n\n") : documents.map((text) => JSON.stringify({ text })).join("\n");
  writeFileSync(path.join(folder, name), lines);
  return name;
}
const training = [1, 2, 3, 4].map((seed) => prose(seed));
const own = [11, 12, 13].map((seed) => prose(seed));
const licence = prose(99, 300);

test.each<[string, string[], string[], Partial<TextPart>, string, number, number]>([
  ["other text", own, training, {}, "nothing", 0, 3],
  ["one document of three", [...own.slice(1), training[2]!], training, {}, "shared passages", 1, 3],
  ["cut elsewhere", [training.join(" ").slice(137)], training, {}, "shared passages", 2, 2],
  ["other white space", [training[0]!.replaceAll(" ", "\n  ")], training, {}, "shared passages", 1, 1],
  ["part of one long document", [`${prose(14, 3000)} ${training.join(" ")}`], training, {}, "shared passages", 2, 5],
  ["a licence under each", own.map((text) => text + licence), [licence, training[0]!], {}, "nothing", 0, 3],
  ["repeated phrases", ["the quick brown fox ".repeat(60)], ["a quick brown fox ".repeat(60)], {}, "nothing", 0, 2],
  ["behind what training reads", [training[3]!], training, { sequences: 2 }, "nothing", 0, 1],
  ["one document a sequence", [training[3]!], training, { sequences: 3, packing: "truncated" }, "nothing", 0, 1],
  ["its fourth", [training[3]!], training, { sequences: 4, packing: "truncated" }, "shared passages", 1, 1],
])("%s", async (_, evaluation, trained, change, kind, shared, passages) => {
  const found = await sharedText(part(write(evaluation)), part(write(trained), change));
  expect(found).toEqual({ kind, shared, passages });
});

test("the same file by another name, the same bytes in another file, the same text in another format", async () => {
  const file = write(training);
  symlinkSync(path.join(folder, file), path.join(folder, "link.jsonl"));
  const all = { shared: 4, passages: 4 };
  expect(await sharedText(part("link.jsonl"), part(file))).toEqual({ kind: "same file", ...all });
  expect(await sharedText(part(write(training)), part(file))).toEqual({ kind: "same content", ...all });
  expect(await sharedText(part(write(training, "txt")), part(file))).toEqual({ kind: "shared passages", ...all });
});

test("what was found is not looked for again while the files stay as they are", async () => {
  const [evaluation, trained] = [part(write([training[2]!])), part(write(training))];
  const found = await sharedText(evaluation, trained);
  expect(await sharedText({ ...evaluation }, { ...trained })).toBe(found);
  expect(await sharedText(evaluation, { ...trained, sequences: 1 })).not.toBe(found);
  writeFileSync(trained.path, JSON.stringify({ text: own[0] }));
  expect(await sharedText(evaluation, trained)).toEqual({ kind: "nothing", shared: 0, passages: 1 });
});
