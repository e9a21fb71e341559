import { expect, it } from "vitest";
import { ModelCache, remembering, type Tokenizers } from "../../../src/engine/run/modelCache";
import type { Tokenizer } from "../../../src/engine/data/tokenizer";

/** A token a character; which texts it was given. */
function counting(): { tokenizer: Tokenizer; asked: string[] } {
  const asked: string[] = [];
  const encode = (text: string) => {
    asked.push(text);
    return Int32Array.from(text, (character) => character.codePointAt(0)!);
  };
  return { asked, tokenizer: { encode, endOfTextId: 0, vocabularyHash: "", vocabularySize: 128 } };
}

it("a text is tokenised once, until a pre-flight's tokens are kept", () => {
  const { tokenizer, asked } = counting();
  const { encode, vocabularySize } = remembering(tokenizer);
  expect([vocabularySize, ...encode("ab"), ...encode("ab")]).toEqual([128, 97, 98, 97, 98]);
  expect(asked).toEqual(["ab"]);
  const long = "x".repeat(2 ** 18);
  for (const text of [long, long, "ab", "c", "c"]) encode(text);
  expect(asked).toEqual(["ab", long, long, "c"]);
});

it("tokenizers of a pre-flight are its run's, until their checkpoint is written anew", async () => {
  const tokenizers: Tokenizers = new Map();
  const [first, second] = [new ModelCache(tokenizers), new ModelCache(tokenizers)];
  const of = (cache: ModelCache) => cache.tokenizer("media/sample/checkpoint");
  const opened = await of(first);
  expect(await of(second)).toBe(opened);
  second.forget("media/sample/checkpoint");
  expect(await of(second)).not.toBe(opened);
});
