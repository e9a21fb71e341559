import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import families from "../../fixtures/tokenizer-families.json";
import parts from "../../fixtures/tokenizer-parts.json";
import { loadTokenizer } from "../../../src/engine/data/tokenizer";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "reroute-kinds-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function load(tokenizer: object) {
  await writeFile(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  return loadTokenizer(folder);
}

/** Texts whose ids differ from the reference's. */
async function differing(tokenizer: object, texts: string[], hashes: string[]): Promise<string[]> {
  const { encode } = await load(tokenizer);
  const hash = (text: string) =>
    createHash("sha256")
      .update(new Uint8Array(encode(text).buffer))
      .digest("hex")
      .slice(0, 8);
  return texts.filter((text, i) => hash(text) !== hashes[i]);
}

describe("tokenizers of the kinds that model families use give the reference's ids", () => {
  test.each(families.rows)("$name", async ({ tokenizer, hashes }) => {
    expect(await differing(tokenizer, families.texts, hashes)).toEqual([]);
  });
});

describe("each part of a tokenizer alone does what the reference does", () => {
  const tokens = [...parts.characters, ...parts.characters.map((character) => `${character}</w>`), "<unk>"];
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const model = { type: "BPE", vocab, merges: [], unk_token: "<unk>", end_of_word_suffix: "</w>", fuse_unk: false };

  test.each(parts.rows)("$name", async ({ tokenizer, hashes }) => {
    expect(await differing({ ...tokenizer, model }, parts.texts, hashes)).toEqual([]);
  });

  const regexSplit = { type: "Split", pattern: { Regex: "a" }, behavior: "MergedWithNext", invert: false };
  test.each<[string, object, RegExp]>([
    ["a merging regular expression", { pre_tokenizer: regexSplit }, /"MergedWithNext".*not supported/],
    ["inverted merging", { pre_tokenizer: { ...regexSplit, pattern: { String: "a" }, invert: true } }, /not supported/],
    [
      "an unknown behaviour",
      { pre_tokenizer: { ...regexSplit, pattern: { String: "a" }, behavior: "Odd" } },
      /"Odd", which is not known/,
    ],
    ["splitting at nothing", { pre_tokenizer: { ...regexSplit, pattern: { String: "" } } }, /empty string/],
    ["a sequence of nothing", { pre_tokenizer: { type: "Sequence", pretokenizers: 5 } }, /without a list/],
    ["a normaliser the library lacks", { normalizer: { type: "Nmt" } }, /Nmt/],
    ["single words", { added_tokens: [{ id: 0, content: "the", single_word: true }] }, /"the" with "single_word"/],
  ])("refused where it cannot: %s", async (_, change, message) => {
    const failure = { code: "data/tokenizer", message: expect.stringMatching(message) as string };
    await expect(load({ added_tokens: [], model, ...change })).rejects.toMatchObject(failure);
  });
});
