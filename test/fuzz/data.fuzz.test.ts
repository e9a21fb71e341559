import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import families from "../fixtures/tokenizer-families.json";
import { buildSequences } from "../../src/engine/data/buildSequences";
import { readDocuments, type TextDocument, unlabelledDomain } from "../../src/engine/data/documents";
import { loadTokenizer, type Tokenizer } from "../../src/engine/data/tokenizer";
import { createRandom, type Random } from "../../src/engine/tensor/random";
import { errorCodeOf, RerouteError } from "../../src/protocol/errors";
import { casesOf } from "./cases";
import { processorMs } from "../support/processorTime";
import { mutateBytes, mutateJson } from "./mutate";

/** Cases of each of the kinds below. A failing case is repeated by its seed, which the message names. */
const numCases = casesOf(13);
const limitMs = 2000;
const sample = join(__dirname, "../../media/sample");

let folder: string;
let tokenizer: Tokenizer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "reroute-fuzz-data-"));
  tokenizer = await loadTokenizer(join(sample, "checkpoint"));
});
afterAll(() => rm(folder, { recursive: true }));

/**
 * Runs all cases; each must end within the limit of processor time, and leave Object.prototype as it was. One that takes too
 * long has two more tries, since garbage is collected in some case.
 */
async function everyCase(stream: number, run: (random: Random) => Promise<string>): Promise<Record<string, number>> {
  const outcomes: Record<string, number> = {};
  for (let seed = 0; seed < numCases; seed++) {
    let outcome = "";
    let elapsed = Infinity;
    for (let tries = 0; tries < 3 && elapsed > limitMs; tries++) {
      const started = processorMs();
      try {
        outcome = await run(createRandom(seed, stream));
      } catch (cause) {
        throw new Error(`case ${seed} of stream ${stream}: ${String(cause)}`, { cause });
      }
      elapsed = processorMs() - started;
    }
    if (elapsed > limitMs) throw new Error(`case ${seed} of stream ${stream} took ${Math.round(elapsed)} ms`);
    if (Object.keys(Object.prototype).length > 0)
      throw new Error(`case ${seed} of stream ${stream} polluted Object.prototype`);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
  return outcomes;
}

/** The result, or the code of a typed error; anything else is a defect and is thrown on. */
async function attempt<T>(work: () => Promise<T>): Promise<T | string> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof RerouteError && errorCodeOf(error) !== "internal" && error.message.length < 2000)
      return error.code;
    throw error;
  }
}

async function read(path: string): Promise<TextDocument[]> {
  const documents: TextDocument[] = [];
  for await (const document of readDocuments(path)) documents.push(document);
  return documents;
}

const formats = join(__dirname, "../fixtures/text-formats");
const chats = [
  { messages: [{ role: "user", content: [{ type: "text", text: "a" }] }], tools: "[]", domain: 1 },
  { conversations: [{ from: "human", value: "b" }], system: "s" },
  { instruction: "c", input: "d", output: "e" },
  { prompt: "f", completion: "g" },
  { input_ids: [1, 2, 3], attention_mask: [1, 1, 0] },
];

test.each<[string, number, () => Promise<Buffer> | Buffer]>([
  ["parquet", 11, () => readFile(join(formats, "text-zstd.parquet"))],
  ["messages.parquet", 12, () => readFile(join(formats, "messages.parquet"))],
  ["arrow", 13, () => readFile(join(formats, "dataset/data-00000-of-00001.arrow"))],
  ["jsonl.zst", 14, () => readFile(join(formats, "text.jsonl.zst"))],
  ["jsonl.gz", 15, () => gzipSync(JSON.stringify({ text: "abc" }))],
  ["csv", 16, () => Buffer.from('text,domain\n"a ""b""\nc",x\nd,')],
  ["json", 17, () => Buffer.from(JSON.stringify(chats, null, 1))],
  ["ndjson", 18, () => Buffer.from(chats.map((chat) => JSON.stringify(chat)).join("\n"))],
])("mutated .%s files give documents or a typed error", async (kind, stream, original) => {
  const path = join(folder, `hostile.${kind}`);
  const bytes = await original();
  const outcomes = await everyCase(stream, async (random) => {
    await writeFile(path, mutateBytes(bytes, random));
    const documents = await attempt(() => read(path));
    if (typeof documents === "string") expect(documents).toBe("data/malformed");
    return typeof documents === "string" ? documents : "read";
  });
  expect(outcomes["data/malformed"]).toBeGreaterThan(numCases / 20);
});

/** What a file holds, computed the simple way from all its bytes at once; null when it must be refused. */
function expectedDocuments(bytes: Buffer, kind: "txt" | "jsonl"): TextDocument[] | null {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
  const lines = text.split("\n").map((line) => line.replace(/\r$/, ""));
  if (kind === "txt") {
    const blocks = lines
      .map((line) => (line.trim() === "" ? "" : line))
      .join("\n")
      .split(/\n\n+/);
    return blocks
      .map((block) => block.replace(/^\n+|\n+$/g, ""))
      .filter((block) => block !== "")
      .map((block) => ({ text: block, domain: unlabelledDomain }));
  }
  const documents: TextDocument[] = [];
  for (const line of lines) {
    if (line.trim() === "") continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      return null;
    }
    if (typeof value === "string") value = { text: value };
    if (Array.isArray(value) && value.length === 0) continue;
    if (typeof value !== "object" || value === null || !("text" in value)) return null;
    const { text: content, domain } = value as { text: unknown; domain?: unknown };
    if (content === null) continue;
    if (typeof content !== "string") return null;
    const name =
      typeof domain === "string"
        ? domain
        : typeof domain === "number"
          ? `${domain}`
          : domain === true
            ? "true"
            : domain === false
              ? "false"
              : "";
    if (name.length > 200 || name === "__proto__") return null;
    if (content !== "") documents.push({ text: content, domain: name || unlabelledDomain });
  }
  return documents;
}

const texts = {
  txt: "First line\nsecond line\n\nNext document, with é, 日本語 and 😀.\r\n\r\nThird\n",
  jsonl: [
    '{"text":"In the year that king Uzziah died I saw","domain":"kjv"}',
    '{"text":"é 日本 \\ud83d\\ude00\\n<|endoftext|>"}',
    "",
    '{"domain":"code","text":"x = [1]"}',
  ].join("\r\n"),
};

test.each([["txt", 1] as const, ["jsonl", 2] as const])(
  "mutated .%s files are read as an independent reader does, or refused",
  async (kind, stream) => {
    const path = join(folder, `mutated.${kind}`);
    const outcomes = await everyCase(stream, async (random) => {
      const bytes = mutateBytes(Buffer.from(texts[kind]), random);
      await writeFile(path, bytes);
      const documents = await attempt(() => read(path));
      const expected = expectedDocuments(bytes, kind);
      expect(documents).toEqual(expected ?? "data/malformed");

      const sequenceLength = 2 + random.below(12);
      const packing = random.below(2) === 0 ? "packed" : "truncated";
      const options = {
        path,
        tokenizer,
        vocabSize: 2048,
        sequences: 1 + random.below(20),
        sequenceLength,
        packing,
      } as const;
      const built = await attempt(() => buildSequences(options));
      if (typeof built === "string") {
        expect(["data/malformed", "data/too-few-tokens"]).toContain(built);
        return built;
      }
      const ids = (expected ?? []).flatMap((document) => [
        ...tokenizer.encode("text" in document ? document.text : ""),
        0,
      ]);
      // A file that is broken behind the last sequence is never read so far.
      if (expected !== null && packing === "packed")
        expect(Array.from(built.ids)).toEqual(ids.slice(0, built.ids.length));
      expect(built.ids.length).toBe(built.numSequences * sequenceLength);
      expect(built.domainIds.every((domain) => domain < built.domainNames.length)).toBe(true);
      expect(built.lengths.every((length) => length >= 2 && length <= sequenceLength)).toBe(true);
      return "built";
    });
    // The mutations are worth nothing when all of them are refused, or none.
    expect(outcomes.built).toBeGreaterThan(numCases / 20);
    expect(outcomes["data/malformed"]).toBeGreaterThan(numCases / 20);
  },
);

const probes = [
  "",
  "Hello, world! It's 1234 o'clock",
  "\u0000\ufeff\u2028 \r\n",
  "日本語 é 😀 ٣",
  "x".repeat(60),
  "<|endoftext|></s><unk>",
  "__proto__ constructor",
];

async function tryTokenizer(bytes: Buffer | string): Promise<string> {
  await writeFile(join(folder, "tokenizer.json"), bytes);
  const outcome = await attempt(async () => {
    const loaded = await loadTokenizer(folder);
    for (const probe of probes) {
      const ids = loaded.encode(probe);
      expect(ids.every((id) => id >= 0 && id < loaded.vocabularySize)).toBe(true);
      expect(loaded.encode(probe)).toEqual(ids);
    }
    return { usable: true };
  });
  if (typeof outcome !== "string") return "usable";
  expect(outcome).toBe("data/tokenizer");
  return outcome;
}

test("mutated bytes of tokenizer.json: ids within the vocabulary, or refused", async () => {
  const originals = families.rows.map(({ tokenizer: original }) => Buffer.from(JSON.stringify(original)));
  const outcomes = await everyCase(3, (random) =>
    tryTokenizer(mutateBytes(originals[random.below(originals.length)]!, random)),
  );
  expect(outcomes["data/tokenizer"]).toBeGreaterThan(numCases / 20);
});

test("mutated values of tokenizer.json: ids within the vocabulary, or refused", async () => {
  const outcomes = await everyCase(4, (random) => {
    const { tokenizer: original } = families.rows[random.below(families.rows.length)]!;
    return tryTokenizer(JSON.stringify(mutateJson(original, random)));
  });
  expect(outcomes.usable).toBeGreaterThan(numCases / 20);
  expect(outcomes["data/tokenizer"]).toBeGreaterThan(numCases / 20);
});

test("mutated values of the configuration files beside it", async () => {
  await writeFile(join(folder, "tokenizer.json"), JSON.stringify(families.rows[0]!.tokenizer));
  const config = {
    eos_token: { content: "<|endoftext|>" },
    eos_token_id: [0, 1],
    added_tokens_decoder: { "0": { content: "<|endoftext|>", special: true }, "2048": { content: "<new>" } },
  };
  const names = ["tokenizer_config.json", "config.json", "generation_config.json"];
  await everyCase(5, async (random) => {
    for (const name of names) {
      const bytes =
        random.below(3) === 0
          ? mutateBytes(Buffer.from(JSON.stringify(config)), random)
          : JSON.stringify(mutateJson(config, random));
      await writeFile(join(folder, name), bytes);
    }
    const outcome = await attempt(async () => {
      const loaded = await loadTokenizer(folder);
      const { endOfTextId } = loaded;
      expect(endOfTextId === null || (Number.isInteger(endOfTextId) && endOfTextId >= 0)).toBe(true);
      return { ids: Array.from(loaded.encode("Hello<|endoftext|>")) };
    });
    return typeof outcome === "string" ? outcome : "usable";
  });
  await Promise.all(names.map((name) => rm(join(folder, name))));
});
