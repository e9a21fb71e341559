import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readDocuments, type ReadOptions, type TextDocument } from "../../../src/engine/data/documents";
import { textFormatOf, textFormats } from "../../../src/protocol/textFormats";
import { temporaryFolder } from "../../support/temporaryFolder";

const fixtures = join(__dirname, "../../fixtures/text-formats");
const folder = temporaryFolder();

async function read(path: string, options: ReadOptions = {}): Promise<TextDocument[]> {
  const documents: TextDocument[] = [];
  for await (const document of readDocuments(path, options)) documents.push(document);
  return documents;
}

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, content);
  return path;
}

/** Rows of the fixtures (make.mjs there); the fourth text is empty. */
const rows = readFileSync(join(fixtures, "text.jsonl"), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line) as { text: string; domain: string | null });
const documents = rows
  .filter(({ text }) => text !== "")
  .map(({ text, domain }) => ({ text, domain: domain ?? "unlabelled" }));
const conversations = rows.map(({ text }) => ({
  text: text === "" ? "say " : `say ${text.slice(0, 9)}\n\n${text}`,
  domain: "unlabelled",
}));
const jsonl = readFileSync(join(fixtures, "text.jsonl"));
const csv = (delimiter: string) => {
  const quoted = (cell: string | null) => (cell === null ? "" : `"${cell.replaceAll('"', '""')}"`);
  return ["text,domain", ...rows.map(({ text, domain }) => `${quoted(text)},${domain ?? ""}`)]
    .join("\r\n")
    .replaceAll(",", (comma, at: number, all: string) =>
      /^(?:[^"]*"[^"]*")*[^"]*$/.test(all.slice(0, at)) ? delimiter : comma,
    );
};

test.each<[string, () => string, TextDocument[]]>([
  ["text-snappy.parquet", () => join(fixtures, "text-snappy.parquet"), documents],
  ["text-zstd.parquet", () => join(fixtures, "text-zstd.parquet"), documents],
  ["text-gzip.parquet", () => join(fixtures, "text-gzip.parquet"), documents],
  ["text-brotli.parquet", () => join(fixtures, "text-brotli.parquet"), documents],
  ["messages.parquet", () => join(fixtures, "messages.parquet"), conversations],
  ["file.arrow", () => join(fixtures, "file.arrow"), documents],
  ["a folder of datasets' save_to_disk", () => join(fixtures, "dataset"), documents],
  [
    "its stream in .gz",
    () => write("stream.arrow.gz", gzipSync(readFileSync(join(fixtures, "dataset/data-00000-of-00001.arrow")))),
    documents,
  ],
  ["a folder with splits: train", () => join(fixtures, "dataset-dict"), conversations],
  [".jsonl.zst", () => join(fixtures, "text.jsonl.zst"), documents],
  [".jsonl.zst with a long window", () => join(fixtures, "long.jsonl.zst"), documents],
  [
    "two frames of .zst",
    () => write("two.jsonl.zst", twice(readFileSync(join(fixtures, "text.jsonl.zst")))),
    [...documents, ...documents],
  ],
  [".jsonl.gz", () => write("text.jsonl.gz", gzipSync(jsonl)), documents],
  ["two members of .gz", () => write("two.jsonl.gz", twice(gzipSync(jsonl))), [...documents, ...documents]],
  [".gz of JSON that says no more", () => write("bare.gz", gzipSync(jsonl)), documents],
  [".gz of text that says no more", () => write("plain.gz", gzipSync("a\n\nb")), [text("a"), text("b")]],
  [".ndjson", () => write("text.ndjson", jsonl), documents],
  [".json, a value a line", () => write("lines.json", jsonl), documents],
  [".json, a list", () => write("list.json", JSON.stringify(rows, null, 2)), documents],
  [".json, a list in an object", () => write("wrapped.json", JSON.stringify({ version: 1, data: rows })), documents],
  [".json, one object", () => write("one.json", JSON.stringify(rows[0], null, 2)), documents.slice(0, 1)],
  [".json, a list of texts", () => write("texts.json", '\ufeff["a", "b \\" ] , c"]'), [text("a"), text('b " ] , c')]],
  [
    ".json, lists of messages",
    () => write("chats.json", '[[{"role":"user","content":"a"}],[{"role":"user","content":"b"}]]'),
    [text("a"), text("b")],
  ],
  [".csv", () => write("text.csv", csv(",")), documents],
  [".csv with a mark", () => write("mark.csv", `\ufeff${csv(",")}`), documents],
  [".tsv", () => write("text.tsv", csv("\t")), documents],
  ["a folder of files", () => mixedFolder("mixed"), [...documents, text("whole\n\nfile")]],
  [
    "a pattern",
    () => join(mixedFolder("pattern"), "**/*.{jsonl,txt}"),
    [...documents, text("deep"), text("whole\n\nfile")],
  ],
  ["a data set of the Hub, with its files in data/", () => hubFolder(), documents],
])("%s", async (_, path, expected) => {
  expect(await read(path())).toEqual(expected);
});

test("ids of Parquet", async () => {
  const ids = (...values: number[]) => ({ ids: Int32Array.from(values), domain: "unlabelled" });
  expect(await read(join(fixtures, "ids.parquet"))).toEqual([ids(1, 2, 3), ids(4, 5)]);
});

test("a column that is named, in a table with others", async () => {
  expect(
    (await read(join(fixtures, "text-snappy.parquet"), { column: "domain" })).map((d) => "text" in d && d.text),
  ).toEqual(["code", "prose", "code", "prose"]);
});

test("values of .json across the chunks of the stream, of any size", async () => {
  const long = Array.from({ length: 40 }, (_, i) => ({ text: `${'é\\"[{'.repeat(i * 700)}${i}` }));
  const path = write("long.json", JSON.stringify(long, null, 1));
  expect(await read(path)).toEqual(long.map(({ text: t }) => text(t)));
});

describe("refused", () => {
  const parquet = readFileSync(join(fixtures, "text-snappy.parquet"));
  const arrow = readFileSync(join(fixtures, "file.arrow"));
  test.each<[string, () => string, RegExp]>([
    ["a bomb", () => join(fixtures, "bomb.jsonl.zst"), /unpacks to more than 200 times its size/],
    [
      "a bomb of .gz",
      () => write("bomb.txt.gz", gzipSync(Buffer.alloc(6 * 2 ** 20, "\n"))),
      /unpacks to more than 200/,
    ],
    ["a cut .gz", () => write("cut.jsonl.gz", gzipSync(jsonl).subarray(0, 40)), /cannot be unpacked.*Is it whole/],
    [
      "a cut .zst",
      () => write("cut.jsonl.zst", readFileSync(join(fixtures, "text.jsonl.zst")).subarray(0, 40)),
      /cannot be unpacked.*Is it whole/,
    ],
    ["no .gz at all", () => write("no.jsonl.gz", jsonl), /cannot be unpacked/],
    ["a cut Parquet", () => write("cut.parquet", parquet.subarray(0, 300)), /cannot be read as Parquet/],
    [
      "a Parquet without pages",
      () => write("holes.parquet", Buffer.concat([parquet.subarray(0, 8), Buffer.alloc(400), parquet.subarray(408)])),
      /cannot be read as Parquet/,
    ],
    ["Parquet in .gz", () => write("text.parquet.gz", gzipSync(parquet)), /compressed by itself/],
    ["a cut Arrow", () => write("cut.arrow", arrow.subarray(0, 900)), /ends in the middle/],
    ["no Arrow", () => write("no.arrow", jsonl), /no Arrow file/],
    ["a .json cut in a list", () => write("cut.json", '[{"text":"a"},'), /ends in the middle of a list/],
    ["a .json cut in a value", () => write("cut2.json", '[{"text":"a"},{"text"'), /line 1 of .*not valid JSON/],
    [
      "a state.json that points elsewhere",
      () => {
        write("evil/state.json", '{"_data_files":[{"filename":"../x.arrow"}]}');
        return join(folder, "evil");
      },
      /expected \.arrow files beside it/,
    ],
    [
      "a table of other columns",
      () => write("other.csv", "a,b\n1,2\n"),
      /record before line 3.*its keys are "a", "b".*--column KEY/,
    ],
  ])("%s", async (_, path, message) => {
    await expect(read(path())).rejects.toMatchObject({
      code: "data/malformed",
      message: expect.stringMatching(message) as string,
    });
  });

  test.each<[string, () => string]>([
    ["a pattern that matches nothing", () => join(folder, "nothing-*.jsonl")],
    [
      "a folder with sub-folders only",
      () => {
        write("only/sub/a.jsonl", jsonl);
        return join(folder, "only");
      },
    ],
  ])("%s", async (_, path) => {
    await expect(read(path())).rejects.toMatchObject({ code: "data/not-found" });
  });
});

test("every kind that is listed is told by its name, compressed as well", () => {
  for (const format of Object.keys(textFormats)) {
    expect(textFormatOf(`A.${format.toUpperCase()}`)).toEqual({ format, compression: null });
    expect(textFormatOf(`a.b.${format}.zst`)).toEqual({ format, compression: "zst" });
  }
  expect([textFormatOf("a.xlsx"), textFormatOf("gz"), textFormatOf("constructor.constructor")]).toEqual([
    null,
    null,
    null,
  ]);
});

function text(content: string): TextDocument {
  return { text: content, domain: "unlabelled" };
}

function twice(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, bytes]);
}

function mixedFolder(name: string): string {
  write(`${name}/a.jsonl`, jsonl);
  write(`${name}/dataset_info.json`, "{}");
  write(`${name}/readme.md`, "not read");
  write(`${name}/z.txt`, "whole\n\nfile");
  write(`${name}/sub/b.txt`, "deep");
  return join(folder, name);
}

function hubFolder(): string {
  write("hub/README.md", "not read");
  mkdirSync(join(folder, "hub/data"), { recursive: true });
  copyFileSync(join(fixtures, "text-snappy.parquet"), join(folder, "hub/data/train-00000-of-00001.parquet"));
  return join(folder, "hub");
}
