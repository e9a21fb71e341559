import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { runCli } from "../../src/cli/program";
import {
  readSafetensorsFile,
  writeSafetensorsFile,
  type MemoryTensor,
} from "../../src/engine/checkpoint/safetensorsFile";
import { ggufBytes } from "../support/ggufFile";
import { goldenCheckpoint } from "../support/goldens";
import { temporaryFolder } from "../support/temporaryFolder";

const folder = temporaryFolder();

async function inspect(target: string): Promise<string> {
  let out = "";
  const io = {
    out: (t: string) => (out += t),
    err: (t: string) => (out += t),
    isTerminal: false,
    columns: 80,
    signal: new AbortController().signal,
    cwd: folder,
  };
  await runCli(["inspect", target], io);
  return out;
}

async function checkpoint(name: string, config: object, tensors: Record<string, number[]>): Promise<string> {
  const directory = path.join(folder, name);
  mkdirSync(directory);
  writeFileSync(path.join(directory, "config.json"), JSON.stringify(config));
  const zeros = ([tensor, shape]: [string, number[]]): [string, MemoryTensor] => [
    tensor,
    { dtype: "BF16", shape, data: new Uint16Array(shape.reduce((product, n) => product * n, 1)) },
  ];
  await writeSafetensorsFile(path.join(directory, "model.safetensors"), new Map(Object.entries(tensors).map(zeros)));
  return directory;
}

/** A copy of a checkpoint with tensors of zeros added. */
async function copyWithMore(source: string, name: string, more: Record<string, number[]>): Promise<string> {
  const { tensors } = await readSafetensorsFile(path.join(source, "model.safetensors"));
  const config = JSON.parse(readFileSync(path.join(source, "config.json"), "utf8")) as object;
  const directory = await checkpoint(name, config, more);
  const added = await readSafetensorsFile(path.join(directory, "model.safetensors"));
  await writeSafetensorsFile(path.join(directory, "model.safetensors"), new Map([...tensors, ...added.tensors]));
  return directory;
}

const dense = { "model.layers.0.mlp.up_proj.weight": [8, 4], "model.layers.1.mlp.up_proj.weight": [8, 4] };
const sparse = {
  "model.layers.0.mlp.up_proj.weight": [8, 4],
  "model.layers.1.feed_forward.router.weight": [2, 4],
  "model.layers.1.feed_forward.experts.0.up_proj.weight": [8, 4],
  "model.layers.1.feed_forward.experts.1.up_proj.weight": [8, 4],
};

/** What people read: every line of the text that says what was found or what is missing. */
const rows: [string, () => Promise<string>, RegExp[]][] = [
  [
    "a supported model",
    async () => goldenCheckpoint("deepseek_v3"),
    [
      /^Family +deepseek_v3$/m,
      /^Stored as +BF16 \(139 tensors, 213 KiB\)$/m,
      /^Experts +16 in 2 of 3 layers, 2 a token; router model\.layers\.1\.mlp\.gate\.weight$/m,
      /^layer 1 +16 experts \+ shared +44\.9 k +87\.7 KiB +72\.0 KiB +1\.03 KiB$/m,
      /^layer 0 +dense /m,
    ],
  ],
  [
    "a dense model of another family",
    () => checkpoint("llama", { model_type: "llama" }, dense),
    [
      /^Inspection only +this is a dense model \(llama\): none of its 2 layers has experts, so there is no router/m,
      /^Experts +none: no layer has experts, so there is no router to calibrate$/m,
      /^Size +128 B in 2 tensors, 1 file$/m,
    ],
  ],
  [
    "an unsupported model with experts",
    () => checkpoint("jamba", { model_type: "jamba", num_experts_per_tok: 2 }, sparse),
    [
      /^Inspection only .*"jamba"/m,
      /^Experts +2 in 1 of 2 layers, 2 a token; router model\.layers\.1\.feed_forward\.router\.weight$/m,
    ],
  ],
  [
    "a supported family with a tensor missing",
    () => checkpoint("incomplete", { model_type: "mixtral" }, dense),
    [/^Inspection only +cannot find tensor "model\.embed_tokens\.weight".*Is the checkpoint complete\?$/m],
  ],
  [
    "a supported family in a format that is not read",
    () => checkpoint("hqq", { model_type: "qwen3_moe", quantization_config: { quant_method: "hqq" } }, sparse),
    [/^Inspection only .*quant_method = "hqq".*supported: compressed-tensors, gptq, awq, fp8, mxfp4\./m],
  ],
  [
    "weights of the decoder that nothing reads, and layers beside it",
    () => {
      const golden = goldenCheckpoint("mixtral");
      return copyWithMore(golden, "renamed", {
        "model.layers.0.self_attn.q_norm.weight": [8],
        "model.layers.1.self_attn.q_norm.weight": [8],
        "mtp.layers.0.norm.weight": [8],
      });
    },
    [
      /^WARNING +model\.layers\.\*\.self_attn\.q_norm\.weight: 2 tensors, 16 parameters, read by nothing although the decoder has them/m,
      /^Not read +mtp\.layers\.\*\.norm\.weight: 1 tensor, 8 parameters$/m,
      /^Beside them +mtp\.layers: 1 layer, 8 parameters$/m,
    ],
  ],
  [
    "a saved base model, with a note",
    () => checkpoint("base", { model_type: "llama" }, { "embed_tokens.weight": [9, 4], "norm.weight": [4] }),
    [/^Note +saved from the base model: names are read with "model\." in front/m],
  ],
  [
    "the folder of a model in a Hugging Face cache",
    async () => {
      const snapshots = path.join(folder, "hub", "models--acme--tiny", "snapshots");
      mkdirSync(snapshots, { recursive: true });
      await checkpoint(path.join("hub", "models--acme--tiny", "snapshots", "abc"), { model_type: "llama" }, dense);
      return path.dirname(snapshots);
    },
    [/^Checkpoint +.*models--acme--tiny\/snapshots\/abc$/m],
  ],
  [
    "hostile names",
    () => checkpoint("hostile", { model_type: "a\u001b[31m\n\u202eb" }, dense),
    [/^Family +a\\u001b\[31m\\u000a\\u202eb$/m],
  ],
  [
    "a GGUF model",
    async () => {
      const tensor = (name: string, shape: number[], bytes: number) =>
        ({ name, shape, type: 12, data: new Uint8Array(bytes) }) as const;
      const router = { name: "blk.0.ffn_gate_inp.weight", type: 0, shape: [4, 256], data: new Uint8Array(4096) };
      const tensors = [router, tensor("blk.0.ffn_up_exps.weight", [4, 2, 256], 8 * 144)];
      writeFileSync(path.join(folder, "m.gguf"), ggufBytes({ tensors }));
      return path.join(folder, "m.gguf");
    },
    [
      /^Inspection only +GGUF files are for inspection only/m,
      /^Stored as +F32 \(1 tensor, 4\.00 KiB\), Q4_K \(1 tensor, 1\.13 KiB\)$/m,
      /^Experts +4 in 1 of 1 layer; router blk\.0\.ffn_gate_inp\.weight$/m,
    ],
  ],
  [
    "a model that no cache has",
    async () => "acme/nowhere",
    [
      /^error checkpoint\/not-found: no such file or folder: .*acme\/nowhere; nor has the Hugging Face cache .* a model acme\/nowhere/m,
    ],
  ],
  ["nothing there", async () => path.join(folder, "nowhere"), [/^error checkpoint\/not-found: .*no such file/m]],
];

describe("inspect", () => {
  it.each(rows)("%s", async (_, make, lines) => {
    const text = await inspect(await make());
    for (const line of lines) expect(text).toMatch(line);
    // eslint-disable-next-line no-control-regex
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202a-\u202e]/);
  });
});
