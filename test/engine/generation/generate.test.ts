import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import type { GenerationEvent } from "../../../src/protocol/generation";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { Decoder } from "../../../src/engine/generation/decoder";
import { planDecoding, type DecodingPlan } from "../../../src/engine/generation/decodingPlan";
import { generate, type GenerationRequest, type GenerationSettings } from "../../../src/engine/generation/generate";
import { forecastGeneration } from "../../../src/engine/generation/forecast";
import { Parameters } from "../../../src/engine/execution/parameters";
import { viewsByKey } from "../../../src/engine/execution/weightViews";
import { weightKey } from "../../../src/engine/graph/blocks/weights";
import { describeModel } from "../../../src/engine/model/families/index";
import { createRandom } from "../../../src/engine/tensor/random";
import { goldenCase, relativeToLargest } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

const greedy: GenerationSettings = {
  ...{ doSample: false, temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
  ...{ maxNewTokens: 20, minNewTokens: 0, endIds: [], stop: [], seed: 5, samples: 1 },
};
const sampled: GenerationSettings = { ...greedy, doSample: true, temperature: 1.2, topP: 0.95 };

async function open(name: string, change: Partial<DecodingPlan> = {}) {
  const checkpoint = await openCheckpoint(goldenCase(name).checkpoint);
  const { description } = describeModel(checkpoint);
  const plan = { ...planDecoding(description, runtime.memoryBudgetBytes, 120, 16), ...change };
  return { checkpoint, description, decoder: await Decoder.open({ checkpoint, description, runtime, plan }) };
}

async function respond(
  name: string,
  prompts: number[][],
  settings: GenerationSettings,
  more: Partial<GenerationRequest> = {},
  change: Partial<DecodingPlan> = {},
) {
  const { decoder } = await open(name, change);
  try {
    const tokens = prompts.map((ids, number) => ({ number, ids: Int32Array.from(ids) }));
    return await generate({ decoder, prompts: tokens, settings, contextLength: 120, ...more });
  } finally {
    await decoder.close();
  }
}

const reference = JSON.parse(
  readFileSync(path.join(import.meta.dirname, "../../fixtures/generation/greedy.json"), "utf8"),
) as Record<string, { prompt: number[]; penalty: number; ids: number[] }[]>;

describe.each(Object.entries(reference))("%s", (name, runs) => {
  test("gives the tokens that transformers' generate gives, all prompts in one batch", async () => {
    const plain = runs.filter(({ penalty }) => penalty === 1);
    const { responses } = await respond(
      path.basename(name),
      plain.map(({ prompt }) => prompt),
      greedy,
    );
    expect(responses.map(({ ids }) => ids)).toEqual(plain.map(({ ids }) => ids));
    const [penalised] = runs.filter(({ penalty }) => penalty !== 1);
    const settings = { ...greedy, repetitionPenalty: penalised!.penalty };
    const again = await respond(path.basename(name), [penalised!.prompt], settings);
    expect(again.responses[0]!.ids).toEqual(penalised!.ids);
  });
});

/** Longer than a window's ring of slots, so that old positions are written over. */
test.each(["gpt_oss-window-top3", "llama4_text-short-chunks-stretched-no-norm", "mixtral-window-mqa-gelu-linear"])(
  "past a window or chunk, %s gives the logits of the whole sequence",
  async (name) => {
    const positions = 112;
    const { decoder, checkpoint, description } = await open(name, { mostPromptTokens: 32 });
    const random = createRandom(1);
    const ids = Int32Array.from({ length: positions }, () => random.below(description.vocabSize));
    const whole = await runForwardProbe({
      ...{ model: { checkpoint, description }, teacher: null, inputIds: ids, batch: 1, positions, runtime },
      scratchDirectory: temporaryFolder(),
    });
    const expected = whole.get("logits")!.data as Float32Array;
    const width = description.vocabSize;
    decoder.begin(1);
    const errors: number[] = [];
    for (let at = 80; at <= positions; at++) {
      const logits = await decoder.advance([at === 80 ? ids.slice(0, 80) : ids.slice(at - 1, at)]);
      errors.push(relativeToLargest(logits, expected.subarray((at - 1) * width, at * width)));
    }
    await decoder.close();
    expect(Math.max(...errors)).toBeLessThan(2e-4);
  },
);

const prompts = [[3, 1, 4, 1, 5, 9, 2, 6], [5], [3, 5, 8], [9, 7, 9], [3, 2, 3, 8, 4]];

test.each(["mixtral", "gpt_oss", "deepseek_v3", "qwen3_next"])(
  "sampled tokens of %s do not depend on how many sequences, or experts, run together",
  async (name) => {
    const settings = { ...sampled, maxNewTokens: 8, samples: 2 };
    const together = await respond(name, prompts, settings);
    const few = name === "mixtral" ? 1 : 3;
    // And weights are widened in each run, as those of large models are.
    const change = { rows: few, keepFloat32Weights: false, expertsPerGraph: 1 };
    const apart = await respond(name, prompts, settings, {}, change);
    expect(apart.responses).toEqual(together.responses);
    expect(apart.metrics.batchRows).toBe(few);
    const ids = together.responses.map((response) => response.ids.join());
    expect(new Set(ids).size).toBe(ids.length);
  },
);

describe("how responses end", () => {
  test("before an end token, not before the least number of tokens", async () => {
    const { responses } = await respond("mixtral", [prompts[0]!], greedy);
    const all = responses[0]!.ids;
    const end = all.findIndex((id, i) => i >= 3 && all.indexOf(id) === i);
    const ending = { ...greedy, endIds: [all[end]!] };
    const early = await respond("mixtral", [prompts[0]!], ending);
    expect(early.responses[0]).toMatchObject({ ids: all.slice(0, end), finish: "end-token" });
    expect(early.metrics).toMatchObject({ newTokens: end, endTokenShare: 1 });
    const later = await respond("mixtral", [prompts[0]!], { ...ending, minNewTokens: end + 2 });
    expect(later.responses[0]!.ids.length).toBeGreaterThanOrEqual(end + 2);
    expect(later.responses[0]!.ids.slice(0, end)).toEqual(all.slice(0, end));
  });

  test("at the context's end, and at the most new tokens", async () => {
    const { responses } = await respond("mixtral", prompts.slice(0, 2), greedy, { contextLength: 12 });
    expect(responses.map(({ ids, finish }) => [ids.length, finish])).toEqual([
      [4, "context"],
      [11, "context"],
    ]);
    const few = await respond("mixtral", prompts.slice(0, 1), { ...greedy, maxNewTokens: 1 });
    expect(few.responses[0]).toMatchObject({ finish: "max-new-tokens", promptTokens: 8 });
    expect(few.metrics).toMatchObject({ steps: 0, promptTokens: 8, newTokens: 1 });
  });

  test("before a stop string, whose beginning is held back", async () => {
    const text = { decode: (ids: Int32Array) => Array.from(ids, (id) => `<${id}>`).join(""), isSpecial: () => false };
    const { responses } = await respond("mixtral", [prompts[0]!], greedy);
    const [a, b, c] = responses[0]!.ids as [number, number, number];
    const events: GenerationEvent[] = [];
    const stopped = await respond(
      "mixtral",
      [prompts[0]!],
      { ...greedy, stop: [`<${b}><${c}>`] },
      { text, onEvent: (event) => events.push(event) },
    );
    expect(stopped.responses[0]).toMatchObject({ text: `<${a}>`, finish: "stop-string" });
    expect(events.map((event) => (event.kind === "token" ? event.text : event.kind))).toEqual([
      ...[`<${a}>`, "", "", "finished"],
    ]);
  });

  test("cancelled between two tokens", async () => {
    const abort = new AbortController();
    let tokens = 0;
    const work = respond("mixtral", prompts, greedy, {
      signal: abort.signal,
      onEvent: () => {
        if (++tokens === 7) abort.abort();
      },
    });
    await expect(work).rejects.toMatchObject({ code: "cancelled" });
    expect(tokens).toBeLessThan(prompts.length * 3);
  });
});

test.each(["mixtral", "deepseek_v3", "qwen3_next"])("weights of %s that train are read from memory", async (name) => {
  const { checkpoint, description, decoder } = await open(name);
  await decoder.close();
  const keys = [...viewsByKey(description).keys()];
  const parameters = await Parameters.read(checkpoint, description, keys);
  const respondWith = async () => {
    const prompt = { number: 0, ids: Int32Array.from(prompts[0]!) };
    const trained = await Decoder.open({ ...decoder.options, parameters });
    try {
      const settings = { ...greedy, maxNewTokens: 6 };
      return (await generate({ decoder: trained, prompts: [prompt], settings, contextLength: 120 })).responses[0]!.ids;
    } finally {
      await trained.close();
    }
  };
  const stored = await respond(name, [prompts[0]!], { ...greedy, maxNewTokens: 6 });
  expect(await respondWith()).toEqual(stored.responses[0]!.ids);
  // A head of zeros leaves all logits equal, of which the lowest id is taken.
  parameters.values.get(weightKey(description.head.weight))!.fill(0);
  expect(await respondWith()).toEqual([0, 0, 0, 0, 0, 0]);
});

test("a model larger than the free memory is said to be read at each step", async () => {
  const { checkpoint, description, decoder } = await open("mixtral", { keepFloat32Weights: false });
  await decoder.close();
  const { plan } = decoder.options;
  const bytes = [...checkpoint.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const embedding = checkpoint.tensors.get(description.embedding.weight.tensor)!.byteLength;
  const fits = forecastGeneration(checkpoint, description, plan, 40, bytes);
  expect(fits).toMatchObject({ sequences: 40, batchRows: 16, secondsPerStep: null, stepBytes: bytes - embedding });
  const single = { ...plan, expertsPerGraph: 1 };
  const tight = forecastGeneration(checkpoint, description, { ...single, rows: 1 }, 1, 1000);
  expect(tight.secondsPerStep).toBeGreaterThan(0);
  // By hand, at 1 MB a second: all but the embedding, and of each layer's 8 experts 0.75 squared without a token of two sequences.
  const slow = forecastGeneration(checkpoint, description, { ...single, rows: 2 }, 2, 1000, () => 1e6);
  expect(slow.secondsPerStep).toBeCloseTo((bytes - embedding - 0.75 ** 2 * 3 * 8 * 3 * 24 * 32 * 2) / 1e6, 12);
  // One token at 2 of 8 experts, each three matrices of 24 x 32 in bf16, in 3 layers.
  expect(fits.stepBytes - tight.stepBytes).toBe(3 * 6 * 3 * 24 * 32 * 2);
});

describe("what cannot be decoded is refused before anything runs", () => {
  const description = async (name: string) =>
    describeModel(await openCheckpoint(goldenCase(name).checkpoint)).description;

  test.each([
    ["olmoe-clip-bias-norm-dynamic", 4096, 2e9, "model/unsupported-option", "dynamic"],
    ["phimoe-longrope", 100_000, 2e9, "model/unsupported-option", "longrope"],
    ["deepseek_v32", 10 ** 6, 2e9, "model/unsupported-option", "chooses which positions"],
    ["mixtral", 10 ** 7, 2e9, "preflight/memory", "--memory"],
  ] as const)("%s at %i tokens", async (name, length, budget, code, message) => {
    const described = await description(name);
    expect(() => planDecoding(described, budget, length, 4)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) as string }),
    );
  });

  test("as many sequences as the budget has room for are decoded together", async () => {
    const described = await description("mixtral");
    const few = planDecoding(described, 6e8, 100_000, 1000);
    const more = planDecoding(described, 2e9, 100_000, 1000);
    expect(few.rows).toBeGreaterThanOrEqual(1);
    expect(more.rows).toBeGreaterThan(few.rows);
    // 3 layers, 2 key-value heads of 8, keys and values, f32; slots in blocks of 64.
    expect(few.pastBytesPerSequence).toBe(3 * 2 * 8 * 2 * 4 * 100_032);
  });
});
