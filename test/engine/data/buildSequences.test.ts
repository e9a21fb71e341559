import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import fixture from "../../fixtures/tokenizer.json";
import { buildSequences, type BuildSequencesOptions } from "../../../src/engine/data/buildSequences";
import { countSequences } from "../../../src/engine/data/countSequences";
import { encodePrefix, wholeTextCharacters } from "../../../src/engine/data/encodePrefix";
import { textUnits } from "../../../src/engine/data/sequences";
import { loadTokenizer, type Tokenizer } from "../../../src/engine/data/tokenizer";

const sample = join(__dirname, "../../../media/sample");
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "reroute-sequences-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** One id a character: its code minus that of "a" plus 1; 0 ends a text. */
const letters: Tokenizer = {
  encode: (text) => Int32Array.from(text, (character) => character.charCodeAt(0) - 96),
  endOfTextId: 0,
  vocabularyHash: "",
  vocabularySize: 27,
};

let files = 0;
async function build(documents: [string, string?][], options: Partial<BuildSequencesOptions>) {
  const path = join(folder, `${files++}.jsonl`);
  await writeFile(path, documents.map(([text, domain]) => JSON.stringify({ text, domain })).join("\n"));
  const all = {
    ...{ path, tokenizer: letters, vocabSize: 27, sequences: 100, sequenceLength: 4, packing: "packed" as const },
    ...options,
  };
  const built = await buildSequences(all);
  // What the pre-flight counts is what is built.
  expect(await countSequences(all)).toMatchObject({ sequences: built.numSequences, isExact: true });
  return built;
}

test("behind the first tokens a text is counted by its length", async () => {
  const path = join(folder, "long.jsonl");
  await writeFile(path, `${JSON.stringify({ text: "abc".repeat(50) })}\n`.repeat(2000));
  const text = { path, tokenizer: letters, vocabSize: 27, sequenceLength: 4, packing: "packed" as const };
  const amount = await countSequences({ ...text, sequences: 1e6 });
  expect(amount.isExact).toBe(false);
  expect(Math.abs(amount.sequences / ((2000 * 151) / 4) - 1)).toBeLessThan(0.01);
});

test.each(fixture.packed)("packed like the PyTorch reference: $file $sequences x $sequenceLength", async (row) => {
  const built = await buildSequences({
    path: join(sample, row.file),
    tokenizer: await loadTokenizer(join(sample, "checkpoint")),
    vocabSize: 2048,
    sequences: row.sequences,
    sequenceLength: row.sequenceLength,
    packing: "packed",
  });
  expect(built.numSequences).toBe(row.found);
  expect(createHash("sha256").update(new Uint8Array(built.ids.buffer)).digest("hex")).toBe(row.sha256);
  const file = createHash("sha256")
    .update(await readFile(join(sample, row.file)))
    .digest("hex");
  expect(built.sourceSha256).toBe(file);
});

describe("packed", () => {
  test("separators, domains by token, remainder dropped", async () => {
    const built = await build(
      [
        ["ab", "x"],
        ["cde", "y"],
        ["fgh", "z"],
      ],
      {},
    );
    expect(Array.from(built.ids)).toEqual([1, 2, 0, 3, 4, 5, 0, 6]);
    expect(Array.from(built.domainIds)).toEqual([0, 0, 0, 1, 1, 1, 1, 2]);
    expect(Array.from(built.documentIds!)).toEqual([0, 0, 0, 1, 1, 1, 1, 2]);
    expect(built.domainNames).toEqual(["x", "y", "z"]);
    expect(Array.from(built.lengths)).toEqual([4, 4]);
  });

  test("a document longer than a sequence goes on in the next", async () => {
    const built = await build([["abcdefghij"]], { sequences: 2 });
    expect(Array.from(built.ids)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  // Sequences of 4 tokens, documents of these many letters and an end each.
  test.each<[string, number[], number[]]>([
    ["short documents: every sequence by itself", [1, 1, 1, 1, 1, 1], [0, 1, 2]],
    ["one document is one unit", [30], [0, 0, 0, 0, 0, 0, 0]],
    ["by most of the tokens: 3 + 1 | 4 | 1 + 3 | 4", [2, 5, 6], [0, 1, 2, 2]],
    ["the first of two halves", [1, 9], [0, 1, 1]],
  ])("units of text: %s", async (_, letterCounts, units) => {
    const built = await build(
      letterCounts.map((count): [string] => ["a".repeat(count)]),
      {},
    );
    expect(Array.from(textUnits(built))).toEqual(units);
  });

  test("a domain that only the dropped remainder has is not listed", async () => {
    expect(
      (
        await build(
          [
            ["abc", "x"],
            ["d", "y"],
          ],
          {},
        )
      ).domainNames,
    ).toEqual(["x"]);
  });

  test("reading stops once there is enough", async () => {
    const path = join(folder, "broken-later.jsonl");
    await writeFile(path, '{"text":"abc"}\nnot JSON');
    const options = { path, tokenizer: letters, vocabSize: 27, sequenceLength: 4, packing: "packed" as const };
    expect((await buildSequences({ ...options, sequences: 1 })).numSequences).toBe(1);
    await expect(buildSequences({ ...options, sequences: 2 })).rejects.toMatchObject({ code: "data/malformed" });
  });
});

describe("truncated", () => {
  test("cut, padded, short ones skipped", async () => {
    const built = await build(
      [
        ["abcdef", "x"],
        ["g", "y"],
        ["hi", "z"],
      ],
      { packing: "truncated" },
    );
    expect(Array.from(built.ids)).toEqual([1, 2, 3, 4, 8, 9, 0, 0]);
    expect(Array.from(built.lengths)).toEqual([4, 2]);
    expect(built.domainNames).toEqual(["x", "z"]);
    expect(Array.from(built.domainIds)).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
    expect(Array.from(built.documentIds!)).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
  });

  test("needs no end-of-text token; padding stays inside the vocabulary", async () => {
    const built = await build([["ab"]], {
      packing: "truncated",
      tokenizer: { ...letters, endOfTextId: 99 },
      vocabSize: 27,
    });
    expect(Array.from(built.ids)).toEqual([1, 2, 0, 0]);
    expect(
      (await build([["ab"]], { packing: "truncated", tokenizer: { ...letters, endOfTextId: null } })).numSequences,
    ).toBe(1);
  });
});

describe("ready token ids", () => {
  const noTokenizer = async (): Promise<Tokenizer> => {
    throw new Error("asked for a tokenizer");
  };
  const ready = async (lines: object[], options: Partial<BuildSequencesOptions>) => {
    const path = join(folder, `${files++}.jsonl`);
    await writeFile(path, lines.map((line) => JSON.stringify(line)).join("\n"));
    const base = {
      path,
      tokenizer: noTokenizer,
      vocabSize: 27,
      sequences: 9,
      sequenceLength: 3,
      packing: "packed" as const,
    };
    return buildSequences({ ...base, ...options });
  };

  test("packed as they are, without tokenizer or separator", async () => {
    const built = await ready([{ input_ids: [1, 2, 3, 4] }, { input_ids: [5, 6, 7], domain: "x" }], {});
    expect(Array.from(built.ids)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(Array.from(built.domainIds)).toEqual([0, 0, 0, 0, 1, 1]);
  });

  test("truncated and padded", async () => {
    const built = await ready([{ input_ids: [1, 2, 3, 4] }, { input_ids: [5, 6] }], { packing: "truncated" });
    expect(Array.from(built.ids)).toEqual([1, 2, 3, 5, 6, 0]);
    expect(Array.from(built.lengths)).toEqual([3, 2]);
  });

  test("beyond the vocabulary", async () => {
    await expect(ready([{ input_ids: [1, 2, 27] }], {})).rejects.toMatchObject({
      code: "data/token-out-of-range",
      message: expect.stringMatching(/token 2 of .* has id 27.*this checkpoint's tokenizer/) as string,
    });
  });
});

test("the 256th and later domains are counted together", async () => {
  const documents = Array.from({ length: 300 }, (_, i): [string, string] => ["abc", `domain ${i}`]);
  const built = await build(documents, { sequences: 300 });
  expect(built.domainNames).toHaveLength(256);
  expect(built.domainNames[255]).toBe("other");
  expect([...built.domainIds].filter((id) => id === 255)).toHaveLength(45 * 4);
  const withOther = await build([["abc", "other"], ...documents], { sequences: 301 });
  expect(withOther.domainNames).toHaveLength(255);
  expect([...withOther.domainIds].filter((id) => id === 0)).toHaveLength((1 + 46) * 4);
});

test.each<[string, [string, string?][], Partial<BuildSequencesOptions>, string, RegExp]>([
  ["no text", [], {}, "data/too-few-tokens", /gives 0 tokens, but a sequence needs 4/],
  ["too short to pack", [["ab"]], {}, "data/too-few-tokens", /gives 3 tokens, but a sequence needs 4/],
  [
    "no document of two tokens",
    [["a"], ["b"]],
    { packing: "truncated" },
    "data/too-few-tokens",
    /gives 2 tokens, but a document needs 2/,
  ],
  [
    "id beyond the vocabulary",
    [["ab"], ["cz"]],
    { vocabSize: 26 },
    "data/token-out-of-range",
    /token 4 of .* has id 26, .* 26 entries/,
  ],
  [
    "end of text beyond the vocabulary",
    [["abc"]],
    { tokenizer: { ...letters, endOfTextId: 27 } },
    "data/token-out-of-range",
    /has id 27/,
  ],
  [
    "no end of text",
    [["abc"]],
    { tokenizer: { ...letters, endOfTextId: null } },
    "data/tokenizer",
    /needs an end-of-text token/,
  ],
  ["length 1", [["abc"]], { sequenceLength: 1 }, "arguments/invalid", /sequenceLength is 1, expected/],
  ["no sequences", [["abc"]], { sequences: 0 }, "arguments/invalid", /sequences is 0/],
  ["more than fits", [["abc"]], { sequences: 2 ** 30 }, "arguments/invalid", /more than 2147483647 tokens/],
  ["cancelled", [["abc"]], { signal: AbortSignal.abort() }, "cancelled", /cancelled/],
])("refused: %s", async (_, documents, options, code, message) => {
  await expect(build(documents, options)).rejects.toMatchObject({
    code,
    message: expect.stringMatching(message) as string,
  });
});

describe("a long text is tokenised only as far as needed", () => {
  let characters = 0;
  const counting: Tokenizer = {
    ...letters,
    encode: (text) => {
      characters += text.length;
      // Three letters make a token, its id the number of letters: a cut in the middle changes the last token before it.
      return Int32Array.from({ length: Math.ceil(text.length / 3) }, (_, i) => Math.min(3, text.length - 3 * i));
    },
  };
  const whole = 5 * wholeTextCharacters;

  test.each([
    ["few ids: one beginning", whole, 300_000, wholeTextCharacters],
    ["more ids: a longer one", whole, 600_000, 3 * wholeTextCharacters],
    ["all ids: the whole", whole, 10_000_000, 3 * wholeTextCharacters + 4 * wholeTextCharacters + whole],
    ["a short text: always the whole", 3000, 10, 3000],
  ])("%s", (_, length, needed, expected) => {
    characters = 0;
    const ids = encodePrefix(counting, "a".repeat(length), needed);
    expect(characters).toBe(expected);
    expect(ids.length).toBeGreaterThanOrEqual(Math.min(needed, Math.ceil(length / 3)));
    expect(ids.subarray(0, needed).every((id, i) => id === 3 || i === Math.ceil(length / 3) - 1)).toBe(true);
  });
});
