import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Checkpoint } from "../../../src/engine/checkpoint/checkpoint";
import { families } from "../../../src/engine/model/families/index";
import { summariseCheckpoint } from "../../../src/engine/model/inspect";
import { tensorRole } from "../../../src/engine/model/tensorRoles";
import type { DType } from "../../../src/engine/tensor/dtype";
import { addTensor, openGolden, type EditableCheckpoint } from "./goldens";

let folder = "";
beforeAll(async () => void (folder = await mkdtemp(path.join(tmpdir(), "reroute-inspect-"))));
afterAll(() => rm(folder, { recursive: true }));

/** A checkpoint that is only headers, in an empty folder. */
function headers(
  config: Checkpoint["config"],
  tensors: Record<string, number[]>,
  dtypes: Record<string, DType> = {},
): EditableCheckpoint {
  const shard = { name: "model.safetensors", realPath: "", sizeBytes: 0, modifiedMs: 0, metadata: {} };
  const checkpoint: EditableCheckpoint = { directory: folder, config, shards: [shard], tensors: new Map() };
  for (const [name, shape] of Object.entries(tensors)) addTensor(checkpoint, name, shape, dtypes[name] ?? "BF16");
  return checkpoint;
}

describe("a supported checkpoint", () => {
  it.each([...families.keys()])("%s", async (family) => {
    const checkpoint = await openGolden(family);
    const summary = await summariseCheckpoint(checkpoint);
    const perToken = family.startsWith("llama4") ? 1 : 2;
    const numLayers = checkpoint.config["num_hidden_layers"] as number;
    const bytes = [...checkpoint.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(summary).toMatchObject({
      path: checkpoint.directory,
      modelType: family,
      supported: true,
      unsupportedReason: null,
      parametersTotal: bytes / 2,
      bytes,
      shards: 1,
      tensors: checkpoint.tensors.size,
      dtypes: { BF16: { tensors: checkpoint.tensors.size, bytes } },
      vocabSize: 160,
      hiddenSize: 32,
      numLayers,
      numExpertsPerToken: perToken,
      provenance: null,
    });
    expect(summary.layers.map(({ index }) => index)).toEqual(Array.from({ length: numLayers }, (_, i) => i));
    const { moe, ...layer } = summary.layers[2]!;
    const numExperts = family === "deepseek_v3" ? 16 : 8;
    // gpt-oss has biases in its experts.
    const perExpert = 3 * 32 * 24 + (family === "gpt_oss" ? 48 + 32 : 0);
    const hasBias = ["gpt_oss", "deepseek_v3", "glm4_moe", "ernie4_5_moe", "lfm2_moe", "minimax_m2"].includes(family);
    const router = numExperts * 32 + (hasBias ? numExperts : 0);
    const shared = {
      qwen2_moe: 3 * 32 * 28 + 32,
      qwen3_next: 3 * 32 * 28 + 32,
      qwen3_5_moe_text: 3 * 32 * 28 + 32,
      deepseek_v2: 2304,
      deepseek_v3: 2304,
      glm4_moe: 2304,
      ernie4_5_moe: 2304,
      hunyuan_v1_moe: 2304,
      llama4_text: 2304,
    }[family];
    expect(moe?.routerTensor).toMatch(/^model\.layers\.2\.(mlp|block_sparse_moe|feed_forward)\.(gate|router)/);
    expect(moe).toEqual({
      numExperts,
      routerTensor: moe?.routerTensor,
      router: { parameters: router, bytes: 2 * router },
      experts: { parameters: numExperts * perExpert, bytes: 2 * numExperts * perExpert },
      sharedExperts: shared === undefined ? null : { parameters: shared, bytes: 2 * shared },
    });
    expect(layer.bytes).toBe(2 * layer.parameters);
    // Six of eight experts (fourteen of sixteen) of every MoE layer are not met by a token.
    const moeLayers = summary.layers.filter((one) => one.moe !== null).length;
    expect(summary.parametersTotal - summary.parametersActive!).toBe(moeLayers * (numExperts - perToken) * perExpert);
  });
});

describe("a checkpoint that is not supported is explained, not refused", () => {
  it("a dense model", async () => {
    const summary = await summariseCheckpoint(
      headers(
        { model_type: "llama", vocab_size: 100, hidden_size: 8, num_hidden_layers: 1 },
        {
          "model.embed_tokens.weight": [100, 8],
          "model.layers.0.mlp.gate_proj.weight": [16, 8],
          "model.layers.0.mlp.down_proj.weight": [8, 16],
        },
      ),
    );
    expect(summary).toMatchObject({
      supported: false,
      modelType: "llama",
      parametersTotal: 1056,
      parametersActive: 1056,
      vocabSize: 100,
      numLayers: 1,
      numExpertsPerToken: null,
    });
    expect(summary.unsupportedReason).toMatch(/model_type = "llama", expected one of .*qwen3_moe/);
    expect(summary.layers).toEqual([{ index: 0, parameters: 256, bytes: 512, moe: null }]);
  });

  it("another MoE family, per expert", async () => {
    const summary = await summariseCheckpoint(
      headers(
        { model_type: "jamba", num_experts_per_tok: 2 },
        {
          "model.layers.3.feed_forward.router.weight": [4, 8],
          "model.layers.3.feed_forward.experts.0.gate_proj.weight": [6, 8],
          "model.layers.3.feed_forward.experts.1.gate_proj.weight": [6, 8],
          "model.layers.10.mamba.A_log": [7],
        },
      ),
    );
    expect(summary).toMatchObject({
      supported: false,
      parametersActive: null,
      numLayers: 2,
      numExpertsPerToken: 2,
      vocabSize: null,
    });
    expect(summary.layers[0]!.moe).toEqual({
      numExperts: 2,
      routerTensor: "model.layers.3.feed_forward.router.weight",
      router: { parameters: 32, bytes: 64 },
      experts: { parameters: 96, bytes: 192 },
      sharedExperts: null,
    });
  });

  it("another MoE family, fused", async () => {
    const summary = await summariseCheckpoint(
      headers(
        { model_type: "dbrx", num_experts: 4 },
        {
          "transformer.blocks.0.ffn.router.layer.weight": [4, 8],
          "transformer.blocks.0.ffn.experts.mlp.w1": [24, 8],
          "model.layers.1.feed_forward.experts.gate_up_proj": [16, 8, 12],
          "model.layers.1.feed_forward.shared_expert.up_proj.weight": [6, 8],
        },
      ),
    );
    expect(summary.layers.map(({ moe }) => moe?.numExperts)).toEqual([4, 16]);
    expect(summary.layers[1]!.moe).toMatchObject({ routerTensor: "", sharedExperts: { parameters: 48 } });
  });

  it.each([
    { name: "an unsupported option", changes: { hidden_act: "relu" }, reason: /hidden_act = "relu"/ },
    { name: "a contradicted config", changes: { num_local_experts: 16 }, reason: /already pruned\?$/ },
    { name: "no model_type", changes: { model_type: undefined }, reason: /no model_type/ },
    { name: "an odd model_type", changes: { model_type: { a: 1 } }, reason: /model_type = \{"a":1\}/ },
    {
      name: "odd sizes",
      changes: { vocab_size: "many", hidden_size: -4, num_hidden_layers: 1.5 },
      reason: /expected an integer/,
    },
  ])("$name", async ({ changes, reason }) => {
    const checkpoint = await openGolden("qwen3_moe");
    checkpoint.config = { ...checkpoint.config, ...changes };
    const summary = await summariseCheckpoint(checkpoint);
    expect(summary.unsupportedReason).toMatch(reason);
    expect(summary).toMatchObject({ supported: false, parametersActive: null });
    expect(summary.layers.map(({ moe }) => moe?.numExperts)).toEqual([8, 8, 8]);
  });
});

describe("parameters of quantised formats", () => {
  const layer = "model.layers.0.mlp.experts";
  it.each([
    {
      name: "MXFP4",
      tensors: { [`${layer}.down_proj_blocks`]: [2, 8, 3, 16], [`${layer}.down_proj_scales`]: [2, 8, 3] },
      dtype: "U8" as const,
      parameters: 2 * 8 * 96,
    },
    {
      name: "F8 blocks",
      tensors: { [`${layer}.0.up_proj.weight`]: [8, 4], [`${layer}.0.up_proj.weight_scale_inv`]: [1, 1] },
      dtype: "F8_E4M3" as const,
      parameters: 32,
    },
    {
      name: "GPTQ",
      tensors: {
        [`${layer}.0.up_proj.qweight`]: [4, 16],
        [`${layer}.0.up_proj.scales`]: [1, 16],
        [`${layer}.0.up_proj.qzeros`]: [1, 2],
      },
      dtype: "I32" as const,
      parameters: 4 * 16 * 8,
    },
    { name: "a learnable scale", tensors: { [`${layer}.router_scale`]: [8] }, dtype: "BF16" as const, parameters: 8 },
  ])("$name", async ({ tensors, dtype, parameters }) => {
    const dtypes = Object.fromEntries(Object.keys(tensors).map((name) => [name, dtype]));
    const summary = await summariseCheckpoint(headers({}, tensors, dtypes));
    expect(summary.parametersTotal).toBe(parameters);
  });
});

describe("roles by name", () => {
  it.each([
    ["model.layers.7.mlp.gate.weight", 7, "router", null],
    ["model.layers.7.mlp.gate_proj.weight", 7, "other", null],
    ["model.layers.7.mlp.gate.e_score_correction_bias", 7, "router", null],
    ["model.layers.7.mlp.gate.wg.weight", 7, "router", null],
    ["model.layers.7.mlp.moe_statics.e_score_correction_bias", 7, "router", null],
    ["model.layers.7.block_sparse_moe.e_score_correction_bias", 7, "router", null],
    ["model.layers.7.block_sparse_moe.router.layer.weight", 7, "router", null],
    ["model.layers.7.block_sparse_moe.input_linear.weight", 7, "expert", null],
    ["model.layers.7.mlp.experts.12.down_proj.weight", 7, "expert", 12],
    ["model.layers.7.block_sparse_moe.experts.12.w2.weight", 7, "expert", 12],
    ["layers.7.mlp.experts.12.down_proj.weight", 7, "expert", 12],
    ["model.layers.7.mlp.experts.12.shared_expert.weight", 7, "shared-expert", null],
    [`model.layers.7.mlp.experts.${"1".repeat(7)}.w1.weight`, 7, "expert", null],
    ["model.layers.7.mlp.experts.gate_up_proj", 7, "expert", null],
    ["model.layers.7.mlp.shared_experts.gate_proj.weight", 7, "shared-expert", null],
    ["model.layers.7.mlp.shared_expert_gate.weight", 7, "shared-expert", null],
    ["model.layers.7.mlp.shared_mlp.up_proj.weight", 7, "shared-expert", null],
    ["model.layers.7.self_attn.q_proj.weight", 7, "other", null],
    ["transformer.h.3.attn.c_attn.weight", 3, "other", null],
    ["model.embed_tokens.weight", null, "other", null],
    [`model.layers.${"9".repeat(400)}.mlp.gate.weight`, null, "other", null],
  ])("%s", (name, layer, kind, expert) => expect(tensorRole(name)).toEqual({ layer, kind, expert }));
});

describe("provenance", () => {
  const provenance = {
    schemaVersion: 1,
    reroute: "0.1.0",
    kind: "compressed",
    teacher: { path: "../teacher", fingerprint: "abc" },
    student: null,
    plan: { schemaVersion: 1, paradigm: "pruning", method: "manual", layers: { "0": { kept: [0, 1] } } },
    recipe: null,
    seed: 42,
    versions: {},
    metrics: {},
  };
  const rows: { name: string; text: string; expected: unknown }[] = [
    {
      name: "names the teacher",
      text: JSON.stringify(provenance),
      expected: { kind: "compressed", teacherPath: "../teacher", method: "manual" },
    },
    {
      name: "without a plan",
      text: JSON.stringify({ ...provenance, plan: null }),
      expected: { kind: "compressed", teacherPath: "../teacher", method: null },
    },
    { name: "of another version", text: JSON.stringify({ ...provenance, schemaVersion: 9 }), expected: null },
    { name: "that is no JSON", text: "{", expected: null },
  ];
  it.each(rows)("$name", async ({ text, expected }) => {
    await writeFile(path.join(folder, "reroute.json"), text);
    const summary = await summariseCheckpoint(headers({}, {}));
    expect(summary.provenance).toEqual(expected);
  });
});
