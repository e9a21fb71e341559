import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { openCheckpoint } from "../../src/engine/checkpoint/open";
import { Decoder } from "../../src/engine/generation/decoder";
import { planDecoding } from "../../src/engine/generation/decodingPlan";
import { generate } from "../../src/engine/generation/generate";
import { describeModel } from "../../src/engine/model/families";
import { writeCheckpoint } from "../../src/engine/checkpoint/write";
import type { ByteSource } from "../../src/engine/checkpoint/tensorSource";
import type { RuntimeOptions } from "../../src/engine/runtime/session";
import { elementCount } from "../../src/engine/tensor/dtype";
import { bytesOf } from "../../src/engine/tensor/floatCodec";
import { float32ToBfloat16 } from "../../src/engine/tensor/halfPrecision";
import { createRandom } from "../../src/engine/tensor/random";
import { defaultShape } from "./makeCheckpoint";
import { attention, decoder, gatedMlp, llamaProjections } from "./syntheticTensors";

/**
 * Tokens a second of 64 sequences of the sample against one; of one sequence of a dense checkpoint with the shape of
 * Qwen3-0.6B; and with `--python PATH` (torch and transformers) those of transformers' generate in float32 beside it, in
 * turns.
 */
export async function generateBench(
  runtime: RuntimeOptions,
  args: string[],
  print: (line: string) => void,
): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { python: { type: "string" }, rounds: { type: "string", default: "3" } },
  });
  const rounds = Number(values.rounds);
  const sample = path.resolve("media/sample/checkpoint");
  const rates: Record<number, Rate[]> = { 1: [], 64: [] };
  for (let round = 0; round < rounds; round++) {
    for (const rows of [1, 64]) rates[rows]!.push(await decodingRate(sample, rows, 32, 96, runtime));
  }
  for (const [name, unit] of [
    ["wall", "tokens/s"],
    ["processor", "tokens a processor second, prompts included"],
  ] as const) {
    const [one, many] = [1, 64].map((rows) => median(rates[rows]!.map((rate) => rate[name]))) as [number, number];
    print(
      `  sample: ${one.toFixed(0)} ${unit} alone, ${many.toFixed(0)} of 64 together, ratio ${(many / one).toFixed(1)}`,
    );
  }
  const folder = await mkdtemp(path.join(os.tmpdir(), "reroute-bench-"));
  try {
    const dense = path.join(folder, "dense");
    await makeDense(dense);
    await denseBench(dense, values.python, rounds, runtime, print);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function denseBench(
  dense: string,
  python: string | undefined,
  rounds: number,
  runtime: RuntimeOptions,
  print: (line: string) => void,
): Promise<void> {
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const { wall: ours } = await decodingRate(dense, 1, 32, 32, runtime);
    if (python === undefined) {
      print(`  dense 0.6B: ${ours.toFixed(2)} tokens/s`);
      continue;
    }
    const theirs = await transformersRate(python, dense, 32, 32, runtime.threads);
    ratios.push(ours / theirs);
    print(
      `  dense 0.6B: ${ours.toFixed(2)} tokens/s, transformers ${theirs.toFixed(2)}, ratio ${(ours / theirs).toFixed(2)}`,
    );
  }
  if (ratios.length > 0) print(`  median ratio ${median(ratios).toFixed(2)}`);
}

/** A checkpoint with the shape of Qwen3-0.6B, random bf16 weights. */
async function makeDense(directory: string): Promise<void> {
  const shape = { ...defaultShape, hiddenSize: 1024, numLayers: 28, vocabSize: 151_936, numHeads: 16 };
  const whole = { ...shape, numKeyValueHeads: 8, headDim: 128, tieWordEmbeddings: true };
  const intermediate = 3072;
  const tensors = decoder(whole, (layer) => [
    ...attention(layer, whole, { headNorms: true }),
    ...gatedMlp(`${layer}.mlp`, whole.hiddenSize, intermediate, llamaProjections),
  ]);
  const random = createRandom(1);
  const block = float32ToBfloat16(Float32Array.from({ length: 1_048_573 }, () => 0.02 * random.normal()));
  const ones = new Uint16Array(whole.hiddenSize).fill(0x3f80);
  await writeCheckpoint({
    directory,
    tensors: tensors.map(({ name, shape: sizes, fill }) => {
      const parts: ByteSource[] = [];
      for (let left = elementCount(sizes); left > 0; left -= block.length) {
        const codes = (fill === "ones" ? ones : block).subarray(0, left);
        parts.push({ kind: "bytes", byteLength: codes.byteLength, data: () => bytesOf(codes) });
      }
      return { name, dtype: "BF16" as const, shape: sizes, parts };
    }),
    config: {
      ...{ model_type: "qwen3", architectures: ["Qwen3ForCausalLM"], torch_dtype: "bfloat16", hidden_act: "silu" },
      ...{ hidden_size: whole.hiddenSize, intermediate_size: intermediate, num_hidden_layers: whole.numLayers },
      ...{ num_attention_heads: whole.numHeads, num_key_value_heads: whole.numKeyValueHeads, head_dim: whole.headDim },
      ...{ vocab_size: whole.vocabSize, max_position_embeddings: 4096, rms_norm_eps: 1e-6, rope_theta: 1e6 },
      ...{ tie_word_embeddings: true, attention_bias: false, use_sliding_window: false },
    },
    maxShardBytes: 4e9,
  });
}

/** New tokens a second, all sequences together: behind the prompts, and by processor time. */
interface Rate {
  wall: number;
  processor: number;
}

/** Graphs are compiled before. */
async function decodingRate(
  directory: string,
  rows: number,
  promptTokens: number,
  newTokens: number,
  runtime: RuntimeOptions,
): Promise<Rate> {
  const checkpoint = await openCheckpoint(directory);
  const { description } = describeModel(checkpoint);
  const limit = promptTokens + newTokens;
  const plan = planDecoding(description, runtime.memoryBudgetBytes, limit, rows);
  const decoder = await Decoder.open({ checkpoint, description, runtime, plan });
  const random = createRandom(1);
  const prompts = Array.from({ length: rows }, (_, number) => ({
    number,
    ids: Int32Array.from({ length: promptTokens }, () => random.below(description.vocabSize)),
  }));
  const settings = {
    ...{ doSample: false, temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
    ...{ minNewTokens: 0, endIds: [], stop: [], seed: 1, samples: 1 },
  };
  const run = (maxNewTokens: number) =>
    generate({ decoder, prompts, settings: { ...settings, maxNewTokens }, contextLength: limit });
  try {
    await run(2);
    const began = process.cpuUsage();
    const { metrics } = await run(newTokens);
    const { user, system } = process.cpuUsage(began);
    return { wall: metrics.decodeTokensPerSecond, processor: (1e6 * metrics.newTokens) / (user + system) };
  } finally {
    await decoder.close();
  }
}

const script = `
import sys, time, torch
from transformers import AutoModelForCausalLM
folder, prompt, new, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = torch.randint(0, model.config.vocab_size, (1, prompt))
def run(n):
    began = time.perf_counter()
    with torch.no_grad():
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=0)
    return time.perf_counter() - began
run(2)
# The prompt and the first token are in both, so that the difference is decoding alone.
print((new - 1) / (run(new) - run(1)))
`;

async function transformersRate(
  python: string,
  directory: string,
  promptTokens: number,
  newTokens: number,
  threads: number,
): Promise<number> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "reroute-bench-"));
  try {
    const file = path.join(folder, "generate.py");
    await writeFile(file, script);
    const args = [file, directory, promptTokens, newTokens, threads].map(String);
    const { stdout, stderr, status } = spawnSync(python, args, { encoding: "utf8" });
    if (status !== 0) throw new Error(`${python} ended with ${status}: ${stderr.slice(-500)}`);
    return Number(stdout.trim().split("\n").at(-1));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
