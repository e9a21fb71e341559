import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { processorMs } from "../../support/processorTime";
import fixture from "../../fixtures/tokenizer.json";
import { readDocuments } from "../../../src/engine/data/documents";
import { loadDecoder, loadTokenizer, pieceDecoder, type Tokenizer } from "../../../src/engine/data/tokenizer";

const sample = join(__dirname, "../../../media/sample");
let tokenizer: Tokenizer;
let folder: string;

beforeAll(async () => {
  tokenizer = await loadTokenizer(join(sample, "checkpoint"));
  folder = await mkdtemp(join(tmpdir(), "reroute-tokenizer-"));
});
afterAll(() => rm(folder, { recursive: true }));

test.each(fixture.cases)("ids equal the reference's: $text", ({ text, ids }) => {
  expect(Array.from(tokenizer.encode(text))).toEqual(ids);
});

test.each(fixture.corpus)("ids of $file equal the reference's", async ({ file, documents, tokens, sha256 }) => {
  const hash = createHash("sha256");
  const found = { documents: 0, tokens: 0 };
  for await (const document of readDocuments(join(sample, file))) {
    const ids = tokenizer.encode("text" in document ? document.text : "");
    hash.update(new Uint8Array(ids.buffer));
    found.documents++;
    found.tokens += ids.length;
  }
  expect(found).toEqual({ documents, tokens });
  expect(hash.digest("hex")).toBe(sha256);
});

test("pieces are what each token adds behind another of its kind", async () => {
  const [pieces, { decode }] = [
    await pieceDecoder(join(sample, "checkpoint")),
    await loadDecoder(join(sample, "checkpoint")),
  ];
  const ids = Array.from({ length: tokenizer.vocabularySize }, (_, id) => id);
  const each = ids.map((id) => decode(Int32Array.of(id, id)).slice(decode(Int32Array.of(id)).length));
  expect(pieces(ids)).toEqual(each);
  expect(pieces([...tokenizer.encode("two words")]).join("")).toBe("two words");
});

test("the sample's end of text and vocabulary", () => {
  expect(tokenizer.endOfTextId).toBe(0);
  expect(tokenizer.vocabularySize).toBe(2048);
  expect(tokenizer.vocabularyHash).toMatch(/^[0-9a-f]{64}$/);
});

test("a lone surrogate counts as U+FFFD, a pair stays a character", () => {
  const ids = (text: string) => Array.from(tokenizer.encode(text));
  expect(ids("a\ud800b\udc00")).toEqual(ids("a\ufffdb\ufffd"));
  expect(ids("\ud83d\ude00")).not.toEqual(ids("\ufffd"));
});

const tiny = {
  added_tokens: [{ id: 3, content: "<eos>", special: true, normalized: false }] as unknown,
  normalizer: null as unknown,
  pre_tokenizer: null as unknown,
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: ["a b"] } as unknown,
};

async function load(files: Record<string, unknown>): Promise<Tokenizer> {
  const directory = await mkdtemp(join(folder, "case-"));
  for (const [name, content] of Object.entries(files)) {
    const bytes = typeof content === "string" || content instanceof Uint8Array ? content : JSON.stringify(content);
    await writeFile(join(directory, name), bytes);
  }
  return loadTokenizer(directory);
}

test.each([
  [
    "tokenizer_config first",
    { "tokenizer_config.json": { eos_token: "<eos>" }, "config.json": { eos_token_id: 1 } },
    3,
  ],
  ["its object form", { "tokenizer_config.json": { eos_token: { content: "b" } } }, 1],
  ["unknown string falls back", { "tokenizer_config.json": { eos_token: "?" }, "config.json": { eos_token_id: 1 } }, 1],
  ["first of a list", { "config.json": { eos_token_id: [2, 1] } }, 2],
  [
    "generation config last",
    { "config.json": { eos_token_id: null }, "generation_config.json": { eos_token_id: 1 } },
    1,
  ],
  ["none", {}, null],
])("end-of-text id: %s", async (_, files, expected) => {
  expect((await load({ "tokenizer.json": tiny, ...files })).endOfTextId).toBe(expected);
});

test("tokens that only tokenizer_config.json lists are added, as transformers does", async () => {
  const config = { added_tokens_decoder: { "4": { content: "<x>", special: true }, "9": { content: "b" } } };
  const loaded = await load({ "tokenizer.json": tiny, "tokenizer_config.json": config });
  // "b" keeps its id, and being an added token now it is split off before any merge.
  expect(Array.from(loaded.encode("ab<x>b<eos>"))).toEqual([0, 1, 4, 1, 3]);
});

test("the vocabulary hash sees ids and tokens, not the order or listing of the file", async () => {
  const hash = async (model: unknown, added: unknown = tiny.added_tokens) =>
    (await load({ "tokenizer.json": { ...tiny, model, added_tokens: added } })).vocabularyHash;
  const original = await hash(tiny.model);
  expect(await hash({ type: "BPE", vocab: { "<eos>": 3, ab: 2, b: 1, a: 0 }, merges: [["a", "b"]] })).toBe(original);
  expect(await hash({ type: "BPE", vocab: { a: 1, b: 0, ab: 2 }, merges: ["a b"] })).not.toBe(original);
  expect(await hash(tiny.model, [])).not.toBe(original);
});

const slowPattern = { type: "Split", pattern: { Regex: "(x+x+)+y" }, behavior: "Isolated", invert: false };

test.each<[string, Record<string, unknown>, RegExp]>([
  ["missing", {}, /does not exist/],
  ["not JSON", { "tokenizer.json": "{" }, /not valid JSON/],
  ["not UTF-8", { "tokenizer.json": Uint8Array.of(0x7b, 0xff) }, /cannot be read/],
  ["not an object", { "tokenizer.json": [] }, /JSON object/],
  ["no model", { "tokenizer.json": { ...tiny, model: null } }, /no "model"/],
  ["unknown model", { "tokenizer.json": { ...tiny, model: { type: "Magic" } } }, /"Magic", expected one of BPE/],
  ["no merges", { "tokenizer.json": { ...tiny, model: { type: "BPE", vocab: {} } } }, /merges/],
  ["bad merge", { "tokenizer.json": { ...tiny, model: { type: "BPE", vocab: {}, merges: [["a"]] } } }, /merge 0/],
  [
    "fractional id",
    { "tokenizer.json": { ...tiny, model: { type: "BPE", vocab: { a: 0.5 }, merges: [] } } },
    /the id 0.5/,
  ],
  ["huge id", { "tokenizer.json": { ...tiny, added_tokens: [{ id: 2 ** 40, content: "x" }] } }, /expected 0 to/],
  ["empty added token", { "tokenizer.json": { ...tiny, added_tokens: [{ id: 1, content: "" }] } }, /added token 0/],
  ["unknown part", { "tokenizer.json": { ...tiny, pre_tokenizer: { type: "Magic" } } }, /cannot be used.*Magic/],
  [
    "bad regex",
    { "tokenizer.json": { ...tiny, pre_tokenizer: { ...slowPattern, pattern: { Regex: "(" } } } },
    /cannot be used/,
  ],
  [
    "no pattern",
    { "tokenizer.json": { ...tiny, pre_tokenizer: { ...slowPattern, pattern: {} } } },
    /without a pattern/,
  ],
  [
    "broken tokenizer_config",
    { "tokenizer.json": tiny, "tokenizer_config.json": "nope" },
    /tokenizer_config.json is not valid JSON/,
  ],
])("refused: %s", async (_, files, message) => {
  await expect(load(files)).rejects.toMatchObject({
    code: "data/tokenizer",
    message: expect.stringMatching(message) as string,
  });
});

test("a regular expression that backtracks without end is stopped", async () => {
  const hostile = await load({ "tokenizer.json": { ...tiny, pre_tokenizer: slowPattern } });
  const started = processorMs();
  expect(() => hostile.encode("x".repeat(60))).toThrow(expect.objectContaining({ code: "data/tokenizer" }) as Error);
  // Two attempts that use the limit up, of twice the time after one that the machine kept waiting.
  expect(processorMs() - started).toBeLessThan(3000);
});

test("a piece without id is refused, not dropped into the ids as undefined", async () => {
  const wordLevel = { type: "WordLevel", vocab: { a: 0 } };
  const loaded = await load({ "tokenizer.json": { ...tiny, model: wordLevel } });
  expect(Array.from(loaded.encode("a"))).toEqual([0]);
  expect(() => loaded.encode("zzz")).toThrow(/gives no id/);
});
