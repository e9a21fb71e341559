import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runCli } from "../../src/cli/program";
import { liveServices } from "../../src/engine/liveServices";
import type { GenerationEvent, GenerationResult } from "../../src/protocol/generation";

const coarse = path.join(__dirname, "../fixtures/coarse");
const mixtral = path.join(__dirname, "../fixtures/goldens/mixtral/checkpoint");
let cwd = "";
let chatty = "";

beforeAll(async () => {
  cwd = await mkdtemp(path.join(tmpdir(), "generate-"));
  chatty = path.join(cwd, "chatty");
  await cp(coarse, chatty, { recursive: true });
  await writeFile(
    path.join(chatty, "chat_template.jinja"),
    "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('No system messages here') }}{% endif %}" +
      "{{ message.role }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
  );
  const lines = [{ prompt: "In the beginning" }, { messages: [{ role: "user", content: "And it came" }] }];
  await writeFile(path.join(cwd, "prompts.jsonl"), lines.map((line) => JSON.stringify(line)).join("\n"));
  await writeFile(path.join(cwd, "none.jsonl"), '{"other": "x"}\n');
  await writeFile(path.join(cwd, "empty.txt"), "\n");
});
afterAll(() => rm(cwd, { recursive: true }));

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string; pieces: string[] }> {
  const result = { code: -1, out: "", err: "", pieces: [] as string[] };
  const io = {
    out: (text: string) => {
      result.out += text;
      result.pieces.push(text);
    },
    err: (text: string) => (result.err += text),
    ...{ isTerminal: false, columns: 80, signal: new AbortController().signal, cwd },
  };
  result.code = await runCli(["generate", ...argv, "--threads", "1", "--memory", "1GB"], io);
  return result;
}

async function json(...argv: string[]): Promise<GenerationResult> {
  const { code, out, err } = await run(...argv, "--json");
  expect(code, err).toBe(0);
  return JSON.parse(out) as GenerationResult;
}

describe("reroute generate", () => {
  it("streams the text that --json gives, and says the rates", async () => {
    const argv = [coarse, "--prompt", "In the beginning", "--max-new-tokens", "6"];
    const { responses, metrics } = await json(...argv);
    expect(responses).toHaveLength(1);
    expect(metrics).toMatchObject({ sequences: 1, promptTokens: responses[0]!.promptTokens, newTokens: 6 });
    expect(metrics.cacheBytes).toBeGreaterThan(0);
    const { out, err, pieces } = await run(...argv);
    expect(out).toBe(`${responses[0]!.text}\n`);
    expect(pieces.length).toBeGreaterThan(3);
    expect(err).toMatch(/prompt tokens at .*first token after .*6 new tokens at .*cache/);
  });

  it("answers several prompts in their order, each conversation through the chat template", async () => {
    const argv = [
      chatty,
      "--prompts",
      "prompts.jsonl",
      "--max-new-tokens",
      "3",
      "--temperature",
      "0.8",
      "--samples",
      "2",
    ];
    const { responses } = await json(...argv);
    expect(responses.map(({ prompt, sample }) => [prompt, sample])).toEqual([
      ...[
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
      ],
    ]);
    const { out } = await run(...argv);
    const titles = out.split("\n").filter((line) => line.startsWith("---"));
    expect(titles.map((title) => title.replace(/of .*prompts/, "of prompts"))).toEqual([
      "--- line 1 of prompts.jsonl, response 1",
      "--- line 1 of prompts.jsonl, response 2",
      "--- line 2 of prompts.jsonl, response 1",
      "--- line 2 of prompts.jsonl, response 2",
    ]);
    // --chat makes the same conversation of a text.
    const asked = await json(chatty, "--prompt", "And it came", "--chat", "--max-new-tokens", "1");
    expect(asked.responses[0]!.promptTokens).toBe(responses[2]!.promptTokens);
  });

  it("is the engine's request, whose events hold the text", async () => {
    const events: GenerationEvent[] = [];
    const abort = new AbortController();
    const start = (id: string) =>
      liveServices()["generation/start"](
        {
          id,
          checkpoint: coarse,
          prompts: [{ text: "In the" }],
          options: { maxNewTokens: 4 },
          memory: "1GB",
          threads: 1,
        },
        {
          signal: abort.signal,
          emit: (name, body) => {
            if (name !== "generation/event") return;
            const { id: of, event } = body as { id: string; event: GenerationEvent };
            expect(of).toBe(id);
            events.push(event);
            if (of === "stopped" && event.kind === "token") abort.abort();
          },
        },
      );
    const { responses } = await start("whole");
    expect(events.map(({ kind }) => kind)).toEqual(["planned", "token", "token", "token", "token", "finished"]);
    const text = events.map((event) => (event.kind === "token" ? event.text : "")).join("");
    expect(text).toBe(responses[0]!.text);
    await expect(start("stopped")).rejects.toMatchObject({ code: "cancelled" });
  });

  const rows: [string, string[], RegExp][] = [
    ["no prompt", [coarse], /arguments\/invalid: Give either --prompt TEXT or --prompts FILE/],
    [
      "two kinds of prompts",
      [coarse, "--prompt", "a", "--prompts", "b"],
      /Give either --prompt TEXT or --prompts FILE/,
    ],
    ["a system message outside a conversation", [coarse, "--prompt", "a", "--system", "b"], /give --chat with it/],
    ["temperature 0", [coarse, "--prompt", "a", "--temperature", "0"], /temperature is 0, expected .*--greedy/],
    ["top_p above 1", [coarse, "--prompt", "a", "--top-p", "2"], /top_p is 2, expected above 0 and at most 1/],
    ["both kinds of choice", [coarse, "--prompt", "a", "--greedy", "--do-sample"], /exclude each other/],
    ["an empty stop", [coarse, "--prompt", "a", "--stop", ""], /stop is \[""\], expected texts that are not empty/],
    ["an empty prompt", [coarse, "--prompt", ""], /prompt 1 is empty/],
    ["a file without prompts", [coarse, "--prompts", "empty.txt"], /empty\.txt holds no prompt/],
    ["a row without a prompt", [coarse, "--prompts", "none.jsonl"], /data\/malformed: line 1 of .*--column KEY/],
    ["a missing file", [coarse, "--prompts", "no.jsonl"], /data\/not-found/],
    ["no tokenizer", [mixtral, "--prompt", "a"], /data\/tokenizer: .*tokenizer\.json does not exist/],
    ["no chat template", [coarse, "--prompt", "a", "--chat"], /data\/chat-template: prompt 1 is a conversation/],
    [
      "a conversation that the template refuses",
      ["chatty", "--prompt", "a", "--chat", "--system", "b"],
      /data\/chat-template: prompt 1 .*No system messages here/,
    ],
    [
      "a prompt longer than the context",
      [coarse, "--prompt", "word ".repeat(3000)],
      /data\/prompt-too-long: prompt 1 has \d+ tokens, but the model's context has \d+/,
    ],
  ];
  it.each(rows)("refuses %s", async (_, argv, expected) => {
    const { code, out, err } = await run(...argv);
    expect(err).toMatch(expected);
    expect(code).toBe(2);
    expect(out).toBe("");
  });
});
