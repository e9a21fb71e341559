import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { buildSequences, type BuildSequencesOptions } from "../../../src/engine/data/buildSequences";
import type { ChatTemplate } from "../../../src/engine/data/chatTemplate";
import { countSequences } from "../../../src/engine/data/countSequences";
import type { Tokenizer } from "../../../src/engine/data/tokenizer";
import { nextTokens } from "../../../src/engine/execution/batches";
import { expectError } from "../checkpoint/fixtures";
import { temporaryFolder } from "../../support/temporaryFolder";

/** One id a character: its code; 0 ends a text. */
const letters: Tokenizer = {
  encode: (text) => Int32Array.from(text, (character) => character.charCodeAt(0)),
  endOfTextId: 0,
  vocabularyHash: "",
  vocabularySize: 128,
};
const spelled = (ids: Int32Array) => [...ids].map((id) => (id === 0 ? "." : String.fromCharCode(id))).join("");

async function build(rows: object[], options: Partial<BuildSequencesOptions> = {}) {
  const file = path.join(temporaryFolder(), "text.jsonl");
  writeFileSync(file, rows.map((row) => JSON.stringify(row)).join("\n"));
  const all = {
    ...{
      path: file,
      tokenizer: letters,
      vocabSize: 128,
      sequences: 9,
      sequenceLength: 8,
      packing: "responses" as const,
    },
    ...options,
  };
  const built = await buildSequences(all);
  expect(await countSequences(all)).toMatchObject({ sequences: built.numSequences });
  return built;
}

const chatml: ChatTemplate = {
  render: ({ messages, asksForAnswer }) =>
    messages.map(({ role, content }) => `${role[0]}${String(content)}|`).join("") + (asksForAnswer ? "a" : ""),
};

describe("packing responses", () => {
  test("a sequence is an instruction and its answer; targets are the answer and its end", async () => {
    const built = await build([
      { prompt: "ab", completion: "cd" },
      { prompt: "abcde", completion: "fghij" },
    ]);
    expect(spelled(built.ids)).toBe("abcd....abcdefgh");
    expect([...built.promptLengths!]).toEqual([2, 5]);
    expect([...built.lengths]).toEqual([5, 8]);
    const { isTarget, labels } = nextTokens(built);
    const learned = [...isTarget.keys()].filter((i) => isTarget[i] === 1);
    expect(spelled(Int32Array.from(learned, (i) => labels[i]!))).toBe("cd.fgh");
  });

  test("conversations by the template, their last answer counts; without one, turns joined by blank lines", async () => {
    const messages = [
      { role: "user", content: "h" },
      { role: "assistant", content: "i" },
      { role: "user", content: "j" },
      { role: "assistant", content: "k" },
    ];
    const rendered = await build([{ messages }], { chat: () => Promise.resolve(chatml), sequenceLength: 12 });
    expect(spelled(rendered.ids)).toBe("uh|ai|uj|ak|");
    expect([...rendered.promptLengths!]).toEqual([10]);
    const plain = await build([{ instruction: "x", response: "y" }]);
    expect(spelled(plain.ids.subarray(0, 5))).toBe("x\n\ny.");
    expect([...plain.promptLengths!]).toEqual([3]);
  });

  test("instructions without room for an answer are left out, and said so", async () => {
    const notes: string[] = [];
    const rows = [
      { prompt: "abcdefgh", completion: "i" },
      { prompt: "a", completion: "b" },
    ];
    const built = await build(rows, { onNote: (note) => void notes.push(note) });
    expect(built.numSequences).toBe(1);
    expect(notes[0]).toMatch(/^1 instructions of .* have 8 tokens or more/);
  });

  test.each<[string, object, string]>([
    ["empty", { instruction: "a", response: " " }, "an empty answer"],
    ["empty completion", { prompt: "a", completion: "" }, "an empty answer"],
    ["missing", { messages: [{ role: "user", content: "a" }] }, "does not end with an answer"],
    ["a plain text", { text: "abc" }, "a plain text"],
    ["token ids", { input_ids: [1, 2] }, "token ids"],
  ])("an answer that is %s is refused, with its line", async (_, row, found) => {
    await expectError(() => build([{ prompt: "a", completion: "b" }, row]), "data/malformed", "line 2", found);
  });

  test("a template that writes the instruction otherwise when it is answered is refused with the first token", async () => {
    const chat: ChatTemplate = { render: ({ asksForAnswer }) => (asksForAnswer ? "abX" : "abYc") };
    const messages = [
      { role: "user", content: "a" },
      { role: "assistant", content: "b" },
    ];
    await expectError(
      () => build([{ messages }], { chat: () => Promise.resolve(chat) }),
      "data/malformed",
      "token 3 is 89, expected 88",
    );
  });
});
