import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { loadTokenizer } from "../../../src/engine/data/tokenizer";
import { measureText } from "../../../src/engine/run/measureText";
import { temporaryFolder } from "../../support/temporaryFolder";

const sample = "media/sample/checkpoint";
const { signal } = new AbortController();

test("a text has its documents' tokens, and an end token behind each", async () => {
  const texts = ["The quick brown fox jumps over the lazy dog.", "It runs far away from here, into the woods."];
  const file = path.join(temporaryFolder(), "text.jsonl");
  writeFileSync(file, texts.map((text) => `${JSON.stringify({ text })}\n`).join(""));
  const { encode } = await loadTokenizer(sample);
  const expected = texts.reduce((sum, text) => sum + encode(text).length + 1, 0);
  expect(await measureText(sample, file, signal)).toBe(expected);
});

test("a longer one has those of the published recipe at most", async () => {
  const file = path.join(temporaryFolder(), "text.txt");
  writeFileSync(file, "one document of many words\n\n".repeat(400_000));
  expect(await measureText(sample, file, signal)).toBe(3000 * 512);
});
