import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { tokenizerDifference } from "../../../src/engine/data/sameTokenizer";
import { checkOwnTokenizer, checkTokenizers } from "../../../src/engine/run/stages/calibrate";
import type { OpenModel } from "../../../src/engine/run/work";
import { temporaryFolder } from "../../support/temporaryFolder";

const sample = path.join(import.meta.dirname, "../../../media/sample/checkpoint");
const original = readFileSync(path.join(sample, "tokenizer.json"), "utf8");

interface Definition {
  normalizer: unknown;
  pre_tokenizer: unknown;
  model: { vocab: Record<string, number>; merges: unknown[] };
}

/** A folder with the sample's tokenizer, changed. */
function folderWith(change: (definition: Definition) => void): string {
  const definition = JSON.parse(original) as Definition;
  change(definition);
  const folder = temporaryFolder();
  writeFileSync(path.join(folder, "tokenizer.json"), JSON.stringify(definition));
  return folder;
}

const [last, lastId] = Object.entries((JSON.parse(original) as Definition).model.vocab).sort(
  ([, a], [, b]) => b - a,
)[0]!;

test.each<[string, (definition: Definition) => void, string | null]>([
  ["the same file, written otherwise", () => undefined, null],
  [
    "tokens in another order, merges as words in place of pairs",
    ({ model }) => {
      model.vocab = Object.fromEntries(Object.entries(model.vocab).reverse());
      model.merges = model.merges.map((merge) => (Array.isArray(merge) ? merge.join(" ") : String(merge).split(" ")));
    },
    null,
  ],
  [
    "a token of another name",
    ({ model }) => {
      Reflect.deleteProperty(model.vocab, last);
      model.vocab["unheard of"] = lastId;
    },
    'the token "unheard of" is only in the second',
  ],
  ["a token less", ({ model }) => void Reflect.deleteProperty(model.vocab, last), " tokens and "],
  ["a merge less", ({ model }) => void model.merges.pop(), 'the section "model" of tokenizer.json'],
  ["another way of normalising", (of) => (of.normalizer = { type: "Lowercase" }), 'the section "normalizer"'],
])("%s", async (_, change, expected) => {
  const found = await tokenizerDifference(sample, folderWith(change));
  if (expected === null) expect(found).toBeNull();
  else expect(found).toContain(expected);
});

test("a student with another tokenizer is refused before anything runs, with what differs; one with experts may have none", async () => {
  const open = (directory: string) => ({ checkpoint: { directory } }) as unknown as OpenModel;
  const other = folderWith(({ model }) => void model.merges.pop());
  await expect(checkTokenizers(open(sample), open(sample))).resolves.toBeUndefined();
  await expect(checkTokenizers(open(other), open(sample))).rejects.toMatchObject({
    code: "teacher/mismatch",
    message: expect.stringContaining('the section "model" of tokenizer.json') as string,
  });
  await expect(checkOwnTokenizer(open(other), open(sample))).rejects.toMatchObject({ code: "teacher/mismatch" });
  await expect(checkOwnTokenizer(open(temporaryFolder()), open(sample))).resolves.toBeUndefined();
});
