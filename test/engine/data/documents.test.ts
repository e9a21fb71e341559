import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readDocuments, type TextDocument, unlabelledDomain } from "../../../src/engine/data/documents";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "reroute-documents-"));
});
afterAll(() => rm(folder, { recursive: true }));

let files = 0;
async function write(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, `${files++}-${name}`);
  await writeFile(path, content);
  return path;
}

async function read(path: string): Promise<TextDocument[]> {
  const documents: TextDocument[] = [];
  for await (const document of readDocuments(path)) documents.push(document);
  return documents;
}

const texts = async (path: string) => (await read(path)).map((document) => ("text" in document ? document.text : null));
const bytes = (...parts: (string | number[])[]) =>
  Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.from(part))));

test.each(["text.txt", "text.jsonl", "text.parquet", "text.csv"])(
  "a Git LFS pointer in place of %s is named",
  async (name) => {
    const path = await write(name, "version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 123456\n");
    await expect(read(path)).rejects.toMatchObject({
      code: "checkpoint/lfs-pointer",
      message: expect.stringMatching(/is a Git LFS pointer: the file of 123456 bytes .*git lfs pull/) as string,
    });
  },
);

describe("txt", () => {
  test.each<[string, string | Uint8Array, string[]]>([
    ["one document without blank line", "a\nb\n", ["a\nb"]],
    ["blank lines separate", "a\nb\n\nc\n\n\n\nd", ["a\nb", "c", "d"]],
    ["white space is blank, CRLF becomes LF", "a\r\nb\r\n \t\r\nc", ["a\nb", "c"]],
    ["leading and trailing blank lines", "\n\na\n\n", ["a"]],
    ["byte order mark", bytes([0xef, 0xbb, 0xbf], "a"), ["a"]],
    ["a mark in the middle stays", "a\n\n\ufeffb", ["a", "\ufeffb"]],
    ["indentation and inner spaces stay", "  a  \n\tb", ["  a  \n\tb"]],
    ["empty", "", []],
    ["only blank lines", "\n \n", []],
    ["non-ASCII", "é 日本 😀\n\nü", ["é 日本 😀", "ü"]],
  ])("%s", async (_, content, expected) => {
    expect(await texts(await write("text.txt", content))).toEqual(expected);
  });

  test("characters and lines across the chunks of the stream", async () => {
    const lines = Array.from({ length: 30_000 }, (_, i) => (i % 100 === 99 ? "" : `Zeile ${i} 日本語 😀`));
    const documents = lines.join("\n").split("\n\n");
    expect(await texts(await write("long.txt", lines.join("\n")))).toEqual(
      documents.map((text) => text.replace(/\n$/, "")),
    );
  });
});

describe("jsonl", () => {
  test.each<[string, string | Uint8Array, TextDocument[]]>([
    [
      "domain and none",
      '{"text":"a","domain":"x"}\n{"text":"b"}',
      [
        { text: "a", domain: "x" },
        { text: "b", domain: unlabelledDomain },
      ],
    ],
    [
      "null and empty domain",
      '{"text":"a","domain":null}\n{"text":"b","domain":""}',
      ["a", "b"].map((text) => ({ text, domain: unlabelledDomain })),
    ],
    ["empty lines, CRLF, other keys", '\r\n{"text":"a","id":7}\r\n \n', [{ text: "a", domain: unlabelledDomain }]],
    ["empty text skipped, spaces kept", '{"text":""}\n{"text":"  "}', [{ text: "  ", domain: unlabelledDomain }]],
    ["escapes", '{"text":"a\\n\\u00e9\\ud800"}', [{ text: "a\n\u00e9\ud800", domain: unlabelledDomain }]],
    ["byte order mark", bytes([0xef, 0xbb, 0xbf], '{"text":"a"}'), [{ text: "a", domain: unlabelledDomain }]],
    [
      "a __proto__ key does nothing",
      '{"text":"a","__proto__":{"domain":"evil"}}',
      [{ text: "a", domain: unlabelledDomain }],
    ],
  ])("%s", async (_, content, expected) => {
    expect(await read(await write("data.JSONL", content))).toEqual(expected);
  });

  test.each<[string, string | Uint8Array, RegExp]>([
    ["invalid JSON", '{"text":"a"}\n\n{"text":', /line 3 of .*valid JSON/],
    ["not an object", '{"text":"a"}\n["a"]', /line 2 of .*not a JSON object/],
    ["no text", '{"txt":"a"}', /line 1 of .*has no "text"/],
    ["text not a string", '{"text":5}', /line 1 of .*not a string/],
    ["domain too long", JSON.stringify({ text: "a", domain: "x".repeat(201) }), /201 characters/],
    ["domain __proto__", '{"text":"a","domain":"__proto__"}', /cannot be used as a name/],
    [
      "invalid UTF-8",
      bytes('{"text":"a"}\n{"text":"', [0xc3, 0x28], '"}'),
      /line 2 of .*, byte 22 \(0xc3\), is not valid UTF-8/,
    ],
    ["truncated UTF-8 at the end", bytes("é", [0xe6, 0x97]), /line 1 of .*byte 2 \(0xe6\)/],
    ["UTF-16", Buffer.from('\ufeff{"text":"a"}', "utf16le"), /line 1 of .*byte 0 \(0xff\)/],
  ])("refused: %s", async (_, content, message) => {
    const failure = expect.objectContaining({
      code: "data/malformed",
      message: expect.stringMatching(message) as string,
    }) as Error;
    await expect(read(await write("data.jsonl", content))).rejects.toEqual(failure);
  });
});

describe("places", () => {
  test("a folder: each .txt file is one document, by name, unchanged", async () => {
    const corpus = join(folder, "corpus");
    await mkdir(join(corpus, "sub.txt"), { recursive: true });
    const contents = {
      "b.txt": "second\n\nstill second\n",
      "a.txt": "\ufefffirst",
      "c.TXT": "",
      "d.md": "not read",
      "sub.txt/e.txt": "deeper",
    };
    for (const [name, content] of Object.entries(contents)) await writeFile(join(corpus, name), content);
    expect(await texts(corpus)).toEqual(["first", "second\n\nstill second\n"]);
  });

  test("invalid UTF-8 in a folder names the file and byte", async () => {
    const corpus = join(folder, "broken");
    await mkdir(corpus);
    await writeFile(join(corpus, "x.txt"), Buffer.from([0x61, 0xff]));
    await expect(read(corpus)).rejects.toMatchObject({
      code: "data/malformed",
      message: expect.stringMatching(/byte 1 of .*x\.txt/) as string,
    });
  });

  test.each([
    ["no such file", "missing.jsonl", "data/not-found"],
    ["a folder without text", "empty", "data/not-found"],
    ["another extension", "table.xlsx", "data/malformed"],
  ])("%s", async (_, name, code) => {
    await mkdir(join(folder, "empty"), { recursive: true });
    await writeFile(join(folder, "table.xlsx"), "a,b");
    await expect(read(join(folder, name))).rejects.toMatchObject({ code });
  });

  test("a reader that has enough may stop", async () => {
    const path = await write("many.jsonl", '{"text":"a"}\n{"text":"b"}\nnot JSON\n');
    const seen: string[] = [];
    for await (const document of readDocuments(path))
      if (seen.push("text" in document ? document.text : "") === 2) break;
    expect(seen).toEqual(["a", "b"]);
  });
});
