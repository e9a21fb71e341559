import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadChatTemplate } from "../../../src/engine/data/chatTemplate";
import { readDocuments, type ReadOptions } from "../../../src/engine/data/documents";
import { temporaryFolder } from "../../support/temporaryFolder";

const folder = temporaryFolder();
let files = 0;

async function read(lines: string, options: ReadOptions = {}): Promise<unknown[]> {
  const path = join(folder, `${files++}.jsonl`);
  writeFileSync(path, lines);
  const documents: unknown[] = [];
  for await (const document of readDocuments(path, options)) {
    documents.push("text" in document ? document.text : Array.from(document.ids));
  }
  return documents;
}

/** Renders as role:content| with the tools' count in front, so that a test sees what reached the template. */
const chat: ReadOptions["chat"] = async () => ({
  render: ({ messages, tools }) =>
    `${Array.isArray(tools) ? `${tools.length} tools|` : ""}${messages.map(({ role, content }) => `${role}:${typeof content === "string" ? content : JSON.stringify(content)}`).join("|")}`,
});
const turns = [
  { role: "user", content: "hi" },
  { role: "assistant", content: "ho" },
];
const sharegpt = [
  { from: "human", value: "hi" },
  { from: "gpt", value: "ho" },
];

describe("what a row says", () => {
  test.each<[string, object, unknown]>([
    ["text before all else", { text: "a", content: "b", messages: turns }, "a"],
    ["content", { content: "b", url: "c" }, "b"],
    ["messages", { messages: turns }, "user:hi|assistant:ho"],
    ["messages as JSON text", { messages: JSON.stringify(turns) }, "user:hi|assistant:ho"],
    ["conversations of ShareGPT", { id: "x", conversations: sharegpt, system: "be" }, "system:be|user:hi|assistant:ho"],
    ["conversation", { conversation: turns, language: "en" }, "user:hi|assistant:ho"],
    ["tools", { messages: turns, tools: '[{"type":"function"}]' }, "1 tools|user:hi|assistant:ho"],
    [
      "a turn without content",
      { messages: [...turns, { role: "assistant", content: null, tool_calls: [] }] },
      "user:hi|assistant:ho|assistant:null",
    ],
    [
      "content in parts",
      {
        messages: [
          {
            role: "user",
            content: [
              { type: "text", text: "h" },
              { type: "text", text: "i" },
            ],
          },
        ],
      },
      "user:hi",
    ],
    ["Alpaca", { instruction: "do", input: "", output: "ok" }, "user:do|assistant:ok"],
    ["Alpaca with input", { instruction: "do", input: "this", output: "ok" }, "user:do\n\nthis|assistant:ok"],
    ["Dolly", { instruction: "do", context: "this", response: "ok", category: "qa" }, "user:do\n\nthis|assistant:ok"],
    ["prompt and completion are one text", { prompt: "a ", completion: "b" }, "a b"],
    ["prompt and completion in messages", { prompt: [turns[0]], completion: [turns[1]] }, "user:hi|assistant:ho"],
    ["question and answer", { question: "q", answer: "a" }, "user:q|assistant:a"],
    ["preferred answers", { chosen: turns, rejected: [] }, "user:hi|assistant:ho"],
    ["input_ids", { input_ids: [5, 6, 7], text: "not read" }, [5, 6, 7]],
    ["input_ids without what is masked", { input_ids: [5, 6, 0, 0], attention_mask: [1, 1, 0, 0] }, [5, 6]],
    ["an empty column beside a full one", { text: null, messages: turns }, "user:hi|assistant:ho"],
  ])("%s", async (_, row, expected) => {
    expect(await read(JSON.stringify(row), { chat })).toEqual([expected]);
  });

  test("rows without text are skipped", async () => {
    const rows = [
      { text: null },
      { text: "" },
      { messages: [] },
      { input_ids: [] },
      { instruction: null, output: null },
    ];
    expect(await read(rows.map((row) => JSON.stringify(row)).join("\n"), { chat })).toEqual([]);
    expect(await read('{"text":NaN}\n{"text":"a NaN"}')).toEqual(["a NaN"]);
  });

  test.each<[string, object, string, unknown]>([
    ["text", { body: "b", text: "a" }, "body", "b"],
    ["messages", { chat: turns }, "chat", "user:hi|assistant:ho"],
    ["ShareGPT", { dialog: sharegpt }, "dialog", "user:hi|assistant:ho"],
    ["ids", { tokens: [1, 2] }, "tokens", [1, 2]],
    ["ids in a table", { tokens: "[1, 2]" }, "tokens", [1, 2]],
  ])("--column: %s", async (_, row, column, expected) => {
    expect(await read(JSON.stringify(row), { column, chat })).toEqual([expected]);
  });

  test("without a template turns are joined, and that is said once", async () => {
    const notes: string[] = [];
    const row = JSON.stringify({ messages: turns });
    expect(await read(`${row}\n${row}`, { chat: async () => null, onNote: (note) => notes.push(note) })).toEqual([
      "hi\n\nho",
      "hi\n\nho",
    ]);
    expect(notes).toHaveLength(1);
    expect(notes[0]).toMatch(/no chat template/);
  });

  test.each<[string, string, RegExp, string?]>([
    [
      "other keys",
      '{"txt":"a","url":"b"}',
      /line 1 of .* has no "text" and nothing else that is read; its keys are "txt", "url"\. Name the one with the text \(--column KEY/,
    ],
    ["no keys", "{}", /its keys are none/],
    [
      "many keys",
      JSON.stringify(Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`k${i}`, 0]))),
      /"k11", and 18 more/,
    ],
    ["a column that is not there", '{"text":"a"}', /has no "body", the column to read; its keys are "text"/, "body"],
    ["a text that is an object", '{"text":{"a":1}}', /"text" that is not a string but an object.*--column/],
    ["a message without role", '{"messages":[{"content":"a"}]}', /message 1 without "role".*its keys are "content"/],
    ["a message that is a number", '{"messages":[5]}', /message 1 that is no object/],
    [
      "a picture",
      '{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}',
      /part of type "image_url"; only text is read/,
    ],
    ["an id that is none", '{"input_ids":[1,-2]}', /in input_ids at 1 .*-2.*expected a token id/],
    ["messages that are a word", '{"messages":"hi"}', /"messages" that is not a list/],
    ["a list of something else", "[true]", /not a JSON object/],
  ])("refused: %s", async (_, line, message, column) => {
    await expect(read(line, { column, chat })).rejects.toMatchObject({
      code: "data/malformed",
      message: expect.stringMatching(message) as string,
    });
  });
});

test.each<[string, string, string]>([
  ["NaN, as Python writes it", '{"text":"a","domain":NaN}', "unlabelled"],
  ["a number", '{"text":"a","domain":5}', "5"],
  ["true", '{"text":"a","domain":true}', "true"],
  ["a list", '{"text":"a","domain":["x"]}', "unlabelled"],
  ["Infinity beside a text that names it", '{"text":"NaN \\"Infinity\\"","score":-Infinity,"domain":"x"}', "x"],
])("domain: %s", async (_, line, domain) => {
  const path = join(folder, `${files++}.jsonl`);
  writeFileSync(path, line);
  for await (const document of readDocuments(path)) expect(document.domain).toBe(domain);
  expect((await read(line))[0]).toMatch(/^a$|^NaN "Infinity"$/);
});

describe("chat templates", () => {
  const chatml =
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}";
  const expected = "<s><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>\n";
  const conversation = (tools: unknown = null) => ({ messages: turns, tools });

  function checkpoint(contents: Record<string, string | object>): string {
    const directory = temporaryFolder();
    for (const [name, content] of Object.entries(contents)) {
      writeFileSync(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
    }
    return directory;
  }

  test.each<[string, Record<string, string | object>, unknown, string]>([
    [
      "chat_template.jinja goes first",
      { "chat_template.jinja": chatml, "tokenizer_config.json": { bos_token: "<s>", chat_template: "x" } },
      null,
      expected,
    ],
    [
      "a string of tokenizer_config.json",
      { "tokenizer_config.json": { bos_token: { content: "<s>" }, chat_template: chatml } },
      null,
      expected,
    ],
    [
      "chat_template.json",
      { "chat_template.json": { chat_template: chatml }, "special_tokens_map.json": { bos_token: "<s>" } },
      null,
      expected,
    ],
    [
      "a list: default",
      {
        "tokenizer_config.json": {
          bos_token: "<s>",
          chat_template: [
            { name: "tool_use", template: "t" },
            { name: "default", template: chatml },
          ],
        },
      },
      null,
      expected,
    ],
    [
      "a list: tool_use",
      {
        "tokenizer_config.json": {
          chat_template: [
            { name: "default", template: chatml },
            { name: "tool_use", template: "{{ tools | length }}" },
          ],
        },
      },
      [{}],
      "1",
    ],
    [
      "a date that stays",
      { "chat_template.jinja": "{{ strftime_now('%d %b %Y, %H:%M') }}" },
      null,
      "01 Jan 2025, 00:00",
    ],
    [
      "range",
      {
        "chat_template.jinja":
          "{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(4, 0, -2) %}{{ i }}{% endfor %}",
      },
      null,
      "01242",
    ],
  ])("%s", async (_, contents, tools, rendered) => {
    const template = await loadChatTemplate(checkpoint(contents));
    expect(template!.render(conversation(tools), "line 1")).toBe(rendered);
  });

  test("none", async () => {
    expect(await loadChatTemplate(checkpoint({ "tokenizer_config.json": {} }))).toBeNull();
  });

  test.each<[string, string, RegExp]>([
    [
      "its own message",
      "{{ raise_exception('Conversation roles must alternate') }}",
      /line 7 of x is a conversation that the chat template of .*jinja does not take: "Conversation roles must alternate"/,
    ],
    ["a filter that is not there", "{{ messages | nothing }}", /does not take/],
    [
      "what never ends",
      "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
      /took more than/,
    ],
    ["what fills the memory", "{{ range(1000000000) }}", /range of 1000000000 numbers, the limit is 100000/],
  ])("refused with %s", async (_, source, message) => {
    const template = await loadChatTemplate(checkpoint({ "chat_template.jinja": source }));
    const failure = { code: "data/chat-template", message: expect.stringMatching(message) as string };
    expect(() => template!.render(conversation(), "line 7 of x")).toThrow(expect.objectContaining(failure));
  });

  test("a template that cannot be parsed", async () => {
    await expect(loadChatTemplate(checkpoint({ "chat_template.jinja": "{% for %}" }))).rejects.toMatchObject({
      code: "data/chat-template",
      message: expect.stringMatching(/cannot be parsed/) as string,
    });
  });
});
