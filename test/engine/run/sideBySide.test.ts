import { cp, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { generateText } from "../../../src/engine/run/generateText";
import { describeForGeneration, scoreSideBySide } from "../../../src/engine/run/sideBySide";
import type { GenerationPrompt } from "../../../src/protocol/generation";
import { maxScoredTokens } from "../../../src/protocol/scoring";
import { temporaryFolder } from "../../support/temporaryFolder";

const coarse = path.join(import.meta.dirname, "../../fixtures/coarse");
const machine = { memory: "1GB", threads: 1, provider: "cpu" } as const;
const prompt: GenerationPrompt = { text: "In the beginning" };
let other = "";

beforeAll(async () => {
  other = path.join(temporaryFolder(), "other");
  await cp(coarse, other, { recursive: true });
  const file = path.join(other, "tokenizer.json");
  const tokenizer = JSON.parse(await readFile(file, "utf8")) as { model: { vocab: Record<string, number> } };
  const [first, second] = Object.keys(tokenizer.model.vocab).slice(-2) as [string, string];
  const { vocab } = tokenizer.model;
  [vocab[first], vocab[second]] = [vocab[second]!, vocab[first]!];
  await writeFile(file, JSON.stringify(tokenizer));
  await writeFile(path.join(other, "chat_template.jinja"), "{{ messages[0].content }}");
});

describe("checkpoints side by side", () => {
  it("are described before anything runs", async () => {
    const described = await describeForGeneration({ checkpoint: coarse, teacher: coarse, memory: "1GB" });
    expect(described).toMatchObject({ family: "mixtral", hasChatTemplate: false, tokenizerDifference: null });
    expect(described.moeLayers).toHaveLength(6);
    expect(described.defaults).toMatchObject({ doSample: false, temperature: 1, topK: 0, topP: 1, maxNewTokens: 256 });
    expect(described.forecast).toMatchObject({ sequences: 1, secondsPerStep: null });
    expect(described.forecast.stepBytes).toBeGreaterThan(1e6);
    const differing = await describeForGeneration({ checkpoint: other, teacher: coarse });
    expect(differing.tokenizerDifference).toMatch(/the token .* is \d+ and \d+/);
    expect(differing.hasChatTemplate).toBe(true);
  });

  it("score the response that one of them wrote: the most likely tokens, by their pieces", async () => {
    const { responses } = await generateText(
      { id: "a", checkpoint: coarse, prompts: [prompt], options: { maxNewTokens: 6, doSample: false }, ...machine },
      { onEvent: () => undefined },
    );
    const { ids, text, promptTokens } = responses[0]!;
    const [scored] = await scoreSideBySide(
      { models: [coarse, coarse], teacher: 0, texts: [{ author: 1, prompt, ids }], ...machine },
      {},
    );
    expect(scored!.promptTokens).toBe(promptTokens);
    expect(scored!.pieces.join("")).toBe(text);
    const [teacher, student] = scored!.models;
    expect(teacher!.nll).toHaveLength(6);
    // At least as likely as each of the vocabulary's tokens in an even draw.
    for (const nll of teacher!.nll) expect(nll).toBeLessThan(Math.log(4096));
    expect(student!.kl!.every((kl) => kl < 1e-6)).toBe(true);
    expect(student!.routing.map(({ experts }) => experts.length)).toEqual(Array.from({ length: 6 }, () => 12));
  });

  it.each([
    [{ models: [coarse, "OTHER"], ids: [1] }, "data/tokenizer", /differ \(the token/],
    [
      { models: [coarse], ids: new Array<number>(maxScoredTokens).fill(1) },
      "arguments/invalid",
      /at most \d+ are compared/,
    ],
    [{ models: [coarse], ids: [1e6] }, "data/token-out-of-range", /holds token id 1000000/],
  ])("refuses what cannot be compared: %#", async ({ models, ids }, code, message) => {
    const folders = models.map((folder) => (folder === "OTHER" ? other : folder));
    const scoring = scoreSideBySide(
      { models: folders, teacher: 0, texts: [{ author: 0, prompt, ids }], ...machine },
      {},
    );
    await expect(scoring).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string });
  });
});
