import { readdirSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { Decoder } from "../../../src/engine/generation/decoder";
import { planDecoding } from "../../../src/engine/generation/decodingPlan";
import { describeModel } from "../../../src/engine/model/families/index";
import { goldenCases, readGoldenFile, relativeToLargest } from "../../support/goldens";
import { isNightly } from "../../support/nightly";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

/** Positions that change with the sequence's length; generate.test.ts has their refusal. */
const refused = /dynamic|longrope/;

/** One of each kind of attention, position and routing; the nightly run has all. */
const daily = new Set([
  ...["mixtral", "gpt_oss", "deepseek_v3", "qwen3_next", "lfm2_moe", "gemma4_text", "mimo_v2_flash", "hunyuan_v1_moe"],
  ...["gemma2", "gemma3_text", "qwen3", "olmo2", "glm4", "phi3"],
  ...["llama4_text-short-chunks-stretched-no-norm", "mistral4-groups-stretched-dense-front", "cohere2_moe"],
]);

/** Dense checkpoints with a golden beside them. */
function denseCases() {
  const folder = path.join(import.meta.dirname, "../../fixtures/dense");
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => ({
      name,
      checkpoint: path.join(folder, name, "checkpoint"),
      golden: path.join(folder, name, "golden.safetensors"),
    }));
}

const cases = [...goldenCases(), ...denseCases()].filter(
  ({ name }) => !refused.test(name) && (isNightly || daily.has(name)),
);

/** What transformers gives for whole sequences must come out where prompts end at different places and tokens follow singly. */
describe.each(cases)("decoding with a past, $name", (golden) => {
  test("logits of every position are those of the whole sequence", async () => {
    const numbers = await readGoldenFile(golden.golden);
    const { shape, values } = numbers.get("input_ids")!;
    const [rows, positions] = shape as [number, number];
    const expected = numbers.get("logits")!.values;
    const checkpoint = await openCheckpoint(golden.checkpoint);
    const { description } = describeModel(checkpoint);
    // A prompt of seven tokens is then two runs.
    const plan = { ...planDecoding(description, runtime.memoryBudgetBytes, positions, rows), mostPromptTokens: 4 };
    const decoder = await Decoder.open({ checkpoint, description, runtime, plan });
    const ids = (row: number, from: number, to: number) =>
      Int32Array.from(values.slice(row * positions + from, row * positions + to));
    // The first row begins with several tokens, the last with one.
    const starts = Array.from({ length: rows }, (_, row) => 1 + 6 * (rows - 1 - row));
    decoder.begin(rows);
    let worst = 0;
    for (let step = 0; step + starts[0]! <= positions; step++) {
      const tokens = starts.map((start, row) =>
        step === 0 ? ids(row, 0, start) : ids(row, start + step - 1, start + step),
      );
      const logits = await decoder.advance(tokens);
      for (const [row, start] of starts.entries()) {
        const at = row * positions + start + step - 1;
        const width = description.vocabSize;
        const error = relativeToLargest(
          logits.subarray(row * width, (row + 1) * width),
          expected.slice(at * width, (at + 1) * width),
        );
        worst = Math.max(worst, error);
      }
    }
    await decoder.close();
    if (process.env["SHOW_ERRORS"] !== undefined) console.log(golden.name, worst);
    expect(worst).toBeLessThan(2e-4);
  });
});
