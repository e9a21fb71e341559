import { cp, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { preflight } from "../../../../src/engine/run/preflight/preflight";
import { recipeSchema } from "../../../../src/protocol/recipe";
import { temporaryFolder } from "../../../support/temporaryFolder";

const coarse = path.join(__dirname, "../../../fixtures/coarse");
const folder = temporaryFolder();

/** A checkpoint without its tokenizer, and a folder with the tokenizer and a chat template alone. */
beforeAll(async () => {
  for (const name of ["bare", "tokenizer"]) await mkdir(path.join(folder, name));
  for (const name of ["config.json", "model.safetensors"])
    await cp(path.join(coarse, name), path.join(folder, "bare", name));
  for (const name of ["tokenizer.json", "tokenizer_config.json"])
    await cp(path.join(coarse, name), path.join(folder, "tokenizer", name));
  const template = "{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.content }}{% endfor %}";
  await writeFile(path.join(folder, "tokenizer", "chat_template.jinja"), template);
  const messages = [
    { role: "user", content: "who" },
    { role: "assistant", content: "me" },
  ];
  await writeFile(path.join(folder, "chat.jsonl"), JSON.stringify({ messages, domain: "talk" }));
  await writeFile(path.join(folder, "ids.json"), JSON.stringify([{ input_ids: [5, 6, 7, 8] }]));
});

const shown = async (data: object) => {
  const recipe = { schemaVersion: 1, teacher: "bare", compress: { keep: 0.5 }, output: "out" };
  const all = { calibration: "chat.jsonl", sequences: 4, sequenceLength: 32, packing: "truncated", ...data };
  const runDirectory = path.join(folder, "run");
  const found = await preflight(recipeSchema.parse({ ...recipe, data: all }), folder, {
    runDirectory,
    showsText: true,
  });
  return { texts: found.texts ?? [], refusals: found.refusals.map(({ message }) => message) };
};

it("shows conversations as the template of another folder writes them, and what counts", async () => {
  const { texts, refusals } = await shown({ tokenizer: "tokenizer" });
  expect(refusals).toEqual([]);
  expect(texts).toHaveLength(1);
  const [sequence] = texts[0]!.sequences;
  expect(texts[0]).toMatchObject({ role: "calibration", wanted: 4, notes: [] });
  expect(sequence).toMatchObject({
    text: "<|endoftext|>user: who<|endoftext|>assistant: me",
    special: 2,
    domains: ["talk"],
  });
  expect(sequence!.tokens + sequence!.padding).toBe(32);
  expect(sequence!.padding).toBeGreaterThan(0);
});

it("ready token ids need no tokenizer, and are shown as numbers", async () => {
  const { texts, refusals } = await shown({ calibration: "ids.json" });
  expect(refusals).toEqual([]);
  expect(texts[0]!.sequences).toEqual([
    { text: "ids 5 6 7 8", tokens: 4, special: 0, padding: 28, domains: ["unlabelled"] },
  ]);
});

it("without a tokenizer says where one may be named", async () => {
  const { texts, refusals } = await shown({});
  expect(texts).toEqual([]);
  expect(refusals.join()).toMatch(
    /copy tokenizer\.json beside config\.json, or name the folder that has it \(--tokenizer DIR/,
  );
});
