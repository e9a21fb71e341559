import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Checkpoint } from "../../../src/engine/checkpoint/checkpoint";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { summariseCheckpoint } from "../../../src/engine/model/inspect";
import { refuseUnread } from "../../../src/engine/model/unread";
import { tensorRole } from "../../../src/engine/model/tensorRoles";
import type { DType } from "../../../src/engine/tensor/dtype";
import { textConfig } from "../../../src/engine/model/textTower";
import { addTensor, isVision, openGolden, type EditableCheckpoint } from "./goldens";

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

/** Goldens whose routers have a bias or a correction bias, and those with one shared expert as wide as a routed one. */
const withBias = [
  ...["gemma4_text", "gemma4"],
  ...["gpt_oss", "deepseek_v3", "glm4_moe", "ernie4_5_moe", "minimax_m2", "dots1", "solar_open", "exaone_moe", "hy_v3"],
  ...["afmoe", "glm4_moe_lite", "mimo_v2_flash", "minimax_m3_vl_text", "deepseek_v32", "lfm2_moe"],
];
const withSharedExpert = [
  ...["deepseek_v2", "deepseek_v3", "glm4_moe", "ernie4_5_moe", "hunyuan_v1_moe", "dots1", "solar_open", "exaone_moe"],
  ...["hy_v3", "afmoe", "glm4_moe_lite", "mistral4", "deepseek_v32", "llama4_text", "llama4"],
];

describe("a supported checkpoint", () => {
  it.each([...families.keys()])("%s", async (family) => {
    const checkpoint = await openGolden(family);
    const summary = await summariseCheckpoint(checkpoint);
    const perToken = family.startsWith("llama4") ? 1 : 2;
    const bytes = [...checkpoint.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    const numLayers = textConfig(checkpoint.config)["num_hidden_layers"] as number;
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
    expect(summary.layers.map(({ index }) => index)).toEqual(Array.from({ length: numLayers }, (_, index) => index));
    const { moe, ...layer } = summary.layers[2]!;
    const numExperts = family === "deepseek_v3" || family === "deepseek_v32" ? 16 : 8;
    // gpt-oss has biases in its experts.
    const perExpert = 3 * 32 * 24 + (family === "gpt_oss" ? 48 + 32 : 0);
    const router =
      numExperts * 32 + (withBias.includes(family) ? numExperts : 0) + (family.startsWith("gemma4") ? 32 : 0);
    const shared = {
      ...{ qwen2_moe: 3 * 32 * 28 + 32, qwen3_next: 3 * 32 * 28 + 32, qwen3_5_moe: 3 * 32 * 28 + 32 },
      qwen3_5_moe_text: 3 * 32 * 28 + 32,
      ...{ granitemoeshared: 3 * 32 * 28, minimax_m3_vl_text: 3 * 32 * 28 },
    }[family];
    const sharedExperts = shared ?? (withSharedExpert.includes(family) ? 3 * 32 * 24 : undefined);
    expect(moe?.routerTensor).toMatch(
      /^(language_model\.)?model\.(language_model\.)?layers\.2\.((mlp|block_sparse_moe|feed_forward)\.)?(gate|router)/,
    );
    expect(moe).toEqual({
      numExperts,
      routerTensor: moe?.routerTensor,
      router: { parameters: router, bytes: 2 * router },
      experts: { parameters: numExperts * perExpert, bytes: 2 * numExperts * perExpert },
      sharedExperts: sharedExperts === undefined ? null : { parameters: sharedExperts, bytes: 2 * sharedExperts },
    });
    expect(layer.bytes).toBe(2 * layer.parameters);
    // Six of eight experts (fourteen of sixteen) of every MoE layer are not met by a token.
    const moeLayers = summary.layers.filter((one) => one.moe !== null).length;
    const vision = [...checkpoint.tensors.values()].filter(({ name }) => isVision(name));
    const visionParameters = vision.reduce((sum, { byteLength }) => sum + byteLength / 2, 0);
    expect(summary.parametersTotal - visionParameters - summary.parametersActive!).toBe(
      moeLayers * (numExperts - perToken) * perExpert,
    );
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
    expect(summary.unsupportedReason).toMatch(/^this is a dense model \(llama\): none of its 1 layers has experts/);
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

  const fused: [string, Checkpoint["config"], Record<string, number[]>, object][] = [
    [
      "DBRX, whose experts are rows of one matrix",
      { model_type: "dbrx", d_model: 8, n_layers: 1, ffn_config: { moe_num_experts: 4, moe_top_k: 2 } },
      {
        "transformer.blocks.0.ffn.router.layer.weight": [4, 8],
        "transformer.blocks.0.ffn.experts.mlp.w1": [24, 8],
      },
      { numExperts: 4, perToken: 2, routerTensor: "transformer.blocks.0.ffn.router.layer.weight", sharedExperts: null },
    ],
    [
      "one tensor with the expert first, and no router",
      { model_type: "llama4" },
      {
        "model.layers.0.feed_forward.experts.gate_up_proj": [16, 8, 12],
        "model.layers.0.feed_forward.shared_expert.up_proj.weight": [6, 8],
      },
      { numExperts: 16, perToken: null, routerTensor: "", sharedExperts: { parameters: 48, bytes: 96 } },
    ],
    [
      "MLX",
      { model_type: "qwen3_moe", num_experts_per_tok: 2 },
      {
        "model.layers.0.mlp.gate.weight": [4, 8],
        "model.layers.0.mlp.switch_mlp.up_proj.weight": [4, 6, 8],
        "model.layers.0.mlp.shared_expert.up_proj.weight": [6, 8],
      },
      {
        numExperts: 4,
        perToken: 2,
        routerTensor: "model.layers.0.mlp.gate.weight",
        sharedExperts: { parameters: 48, bytes: 96 },
      },
    ],
    [
      "Nemotron-H",
      { model_type: "nemotron_h", num_experts_per_tok: 2 },
      {
        "backbone.layers.0.mixer.gate.weight": [2, 8],
        "backbone.layers.0.mixer.experts.0.up_proj.weight": [6, 8],
        "backbone.layers.0.mixer.experts.1.up_proj.weight": [6, 8],
      },
      { numExperts: 2, perToken: 2, routerTensor: "backbone.layers.0.mixer.gate.weight", sharedExperts: null },
    ],
    [
      "Step-3, whose stack has no name",
      { model_type: "step3_text", moe_num_experts: 3 },
      { "model.layers.0.moe.gate.weight": [3, 8], "model.layers.0.moe.up_proj.weight": [3, 6, 8] },
      { numExperts: 3, perToken: null, routerTensor: "model.layers.0.moe.gate.weight", sharedExperts: null },
    ],
    [
      "a router that tells what neither tensors nor config do",
      { model_type: "other" },
      { "model.layers.0.ffn.router.layer.weight": [5, 8], "model.layers.0.ffn.experts.mlp.w1": [30, 8] },
      { numExperts: 5, perToken: null, routerTensor: "model.layers.0.ffn.router.layer.weight", sharedExperts: null },
    ],
  ];
  it.each(fused)("%s", async (_, config, tensors, expected) => {
    const { layers, numExpertsPerToken: perToken } = await summariseCheckpoint(headers(config, tensors));
    const { numExperts, routerTensor, sharedExperts } = layers[0]!.moe!;
    expect({ numExperts, perToken, routerTensor, sharedExperts }).toEqual(expected);
  });

  const decoder = { "model.layers.0.mlp.gate.weight": [2, 8], "model.layers.0.mlp.experts.0.up_proj.weight": [6, 8] };
  const beside: [string, Record<string, number[]>, Checkpoint["config"], string[]][] = [
    ["layers that predict further tokens", { "mtp.layers.0.mlp.gate.weight": [2, 8] }, {}, ["mtp.layers 1"]],
    [
      "such layers behind the last",
      { "model.layers.1.mlp.gate.weight": [2, 8], "model.layers.2.mlp.gate.weight": [2, 8] },
      { num_hidden_layers: 1 },
      ["model.layers.1 to 2 2"],
    ],
    [
      "a vision encoder",
      { "model.visual.blocks.0.mlp.w": [99, 99], "model.visual.blocks.7.a": [2] },
      {},
      ["model.visual.blocks 2"],
    ],
    ["an audio encoder", { "audio_tower.layers.3.fc1.weight": [99, 9] }, {}, ["audio_tower.layers 1"]],
    [
      "a speaker with experts",
      { "talker.model.layers.0.mlp.experts.0.up_proj.weight": [99, 9] },
      {},
      ["talker.model.layers 1"],
    ],
  ];
  it.each(beside)("%s is no decoder layer", async (_, tensors, config, parts) => {
    const summary = await summariseCheckpoint(headers({ model_type: "other", ...config }, { ...tensors, ...decoder }));
    expect(summary.layers).toMatchObject([{ index: 0, parameters: 64, moe: { numExperts: 1 } }]);
    expect(summary.otherParts.map(({ name, layers }) => `${name} ${layers}`)).toEqual(parts);
    const inParts = summary.otherParts.reduce((sum, { parameters }) => sum + parameters, 0);
    expect(summary.parametersTotal).toBe(64 + inParts);
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

describe("parameters of packed weights", () => {
  const at = "model.layers.0.mlp.experts.0.up_proj";
  const stack = "model.layers.0.mlp.experts";
  type Stored = Record<string, [dtype: DType, ...shape: number[]]>;
  /** A matrix of 8 outputs and 64 inputs in each format: 512 parameters, unless the row says otherwise. */
  const rows: [string, Stored, Checkpoint["config"], number?][] = [
    [
      "MXFP4",
      { [`${stack}.down_proj_blocks`]: ["U8", 2, 8, 2, 16], [`${stack}.down_proj_scales`]: ["U8", 2, 8, 2] },
      {},
      1024,
    ],
    ["F8 blocks", { [`${at}.weight`]: ["F8_E4M3", 8, 64], [`${at}.weight_scale_inv`]: ["F32", 1, 1] }, {}],
    ...[2, 3, 4, 8].map((bits): [string, Stored, Checkpoint["config"]] => [
      `GPTQ of ${bits} bits`,
      {
        [`${at}.qweight`]: ["I32", 2 * bits, 8],
        [`${at}.scales`]: ["F16", 2, 8],
        [`${at}.qzeros`]: ["I32", 2, 1],
        [`${at}.g_idx`]: ["I32", 64],
      },
      { quantization_config: { bits: 4 } },
    ]),
    [
      "GPTQ without permutation",
      { [`${at}.qweight`]: ["I32", 16, 8], [`${at}.scales`]: ["F16", 2, 8] },
      { quantization_config: { bits: 8 } },
    ],
    [
      "AWQ",
      { [`${at}.qweight`]: ["I32", 64, 1], [`${at}.scales`]: ["F16", 2, 8], [`${at}.qzeros`]: ["I32", 2, 1] },
      {},
    ],
    [
      "compressed-tensors of 4 and 8 bits",
      {
        [`${at}.weight_packed`]: ["I32", 8, 8],
        [`${at}.weight_scale`]: ["BF16", 8, 2],
        [`${at}.weight_shape`]: ["I64", 2],
        [`${at}2.weight_packed`]: ["I32", 8, 16],
        [`${at}2.weight_scale`]: ["BF16", 8, 1],
        [`${at}2.weight_zero_point`]: ["I32", 1, 1],
      },
      {
        quantization_config: {
          config_groups: {
            a: { weights: { num_bits: 4, group_size: 32 } },
            b: { weights: { num_bits: 8, group_size: 64 } },
          },
        },
      },
      1024,
    ],
    [
      "NVFP4 of compressed-tensors",
      {
        [`${at}.weight_packed`]: ["U8", 8, 32],
        [`${at}.weight_scale`]: ["F8_E4M3", 8, 4],
        [`${at}.weight_global_scale`]: ["F32", 1],
        [`${at}.input_global_scale`]: ["F32", 1],
      },
      { quantization_config: { config_groups: { a: { weights: { num_bits: 4, group_size: 16 } } } } },
    ],
    [
      "NVFP4 of ModelOpt, with scales of a cache",
      {
        [`${at}.weight`]: ["U8", 8, 32],
        [`${at}.weight_scale`]: ["F8_E4M3", 8, 4],
        [`${at}.weight_scale_2`]: ["F32"],
        [`${at}.input_scale`]: ["F32"],
        "model.layers.0.self_attn.k_proj.k_scale": ["F32"],
      },
      { quantization_config: { quant_algo: "NVFP4" } },
    ],
    ["FP4 in I8", { [`${at}.weight`]: ["I8", 8, 32], [`${at}.scale`]: ["F8_E8M0", 8, 2] }, { expert_dtype: "fp4" }],
    ["FP4 in I8 with scales as bytes", { [`${at}.weight`]: ["I8", 8, 32], [`${at}.weight_scale`]: ["U8", 8, 2] }, {}],
    ["integers of 8 bits", { [`${at}.weight`]: ["I8", 8, 64], [`${at}.weight_scale`]: ["BF16", 8, 1] }, {}],
    ["integers of 8 bits of bitsandbytes", { [`${at}.weight`]: ["I8", 8, 64], [`${at}.SCB`]: ["F32", 8] }, {}],
    [
      "NF4 of bitsandbytes",
      {
        [`${at}.weight`]: ["U8", 256, 1],
        [`${at}.weight.absmax`]: ["U8", 8],
        [`${at}.weight.quant_map`]: ["F32", 16],
        [`${at}.weight.nested_absmax`]: ["F32", 1],
        [`${at}.weight.nested_quant_map`]: ["F32", 256],
        [`${at}.weight.quant_state.bitsandbytes__nf4`]: ["U8", 80],
      },
      {},
    ],
    [
      "MLX, with a layer of other bits",
      {
        [`${at}.weight`]: ["U32", 8, 8],
        [`${at}.scales`]: ["BF16", 8, 1],
        [`${at}.biases`]: ["BF16", 8, 1],
        "model.layers.0.mlp.switch_mlp.up_proj.weight": ["U32", 2, 8, 6],
        "model.layers.0.mlp.switch_mlp.up_proj.scales": ["BF16", 2, 8, 2],
        "model.layers.0.mlp.switch_mlp.up_proj.biases": ["BF16", 2, 8, 2],
      },
      {
        quantization: { bits: 4, group_size: 64, "model.layers.0.mlp.switch_mlp.up_proj": { bits: 3, group_size: 32 } },
      },
      512 + 1024,
    ],
    [
      "a learnable scale",
      { [`${stack}.router_scale`]: ["BF16", 8], "model.layers.0.router.scale": ["BF16", 8] },
      {},
      16,
    ],
    ["a learnable scale beside plain weights", { "a.weight": ["BF16", 8], "a.scale": ["BF16", 8] }, {}, 16],
    [
      "learnable biases",
      { [`${at}.weight`]: ["BF16", 8, 64], [`${at}.biases`]: ["BF16", 8], [`${at}.bias`]: ["BF16", 8] },
      {},
      528,
    ],
  ];
  it.each(rows)("%s", async (_, stored, config, expected = 512) => {
    const shapes = Object.fromEntries(Object.entries(stored).map(([name, [, ...shape]]) => [name, shape]));
    const dtypes = Object.fromEntries(Object.entries(stored).map(([name, [dtype]]) => [name, dtype]));
    expect((await summariseCheckpoint(headers(config, shapes, dtypes))).parametersTotal).toBe(expected);
  });
});

describe("tensors that nothing reads", () => {
  const rows: [string, string[], string[]][] = [
    [
      "query norms of another family",
      ["model.layers.0.self_attn.q_norm.weight", "model.layers.1.self_attn.q_norm.weight"],
      ["model.layers.*.self_attn.q_norm.weight 2 decoder"],
    ],
    [
      "an adapter that was not merged",
      ["model.layers.2.self_attn.q_proj.lora_A.weight"],
      ["model.layers.*.self_attn.q_proj.lora_A.weight 1 decoder"],
    ],
    ["a norm after the embedding", ["model.embed_norm.weight"], ["model.embed_norm.weight 1 decoder"]],
    ["a bias of the head", ["lm_head.bias"], ["lm_head.bias 1 decoder"]],
    ["layers behind the last", ["model.layers.3.mlp.gate.weight"], ["model.layers.*.mlp.gate.weight 1"]],
    [
      "another part",
      ["model.visual.blocks.0.mlp.weight", "mtp.layers.0.norm.weight"],
      ["model.visual.blocks.*.mlp.weight 1", "mtp.layers.*.norm.weight 1"],
    ],
    ["buffers", ["model.layers.0.self_attn.rotary_emb.inv_freq"], ["model.layers.*.self_attn.rotary_emb.inv_freq 1"]],
    [
      "experts that the router does not name",
      ["model.layers.0.mlp.experts.8.up_proj.weight"],
      ["model.layers.*.mlp.experts.*.up_proj.weight 1"],
    ],
    ["nothing", [], []],
  ];
  it.each(rows)("%s", async (_, names, expected) => {
    const checkpoint = await openGolden("mixtral");
    for (const name of names) addTensor(checkpoint, name, [4], "BF16");
    const { unread } = await summariseCheckpoint(checkpoint);
    expect(
      unread.map(({ pattern, tensors, ofDecoder }) => `${pattern} ${tensors}${ofDecoder ? " decoder" : ""}`),
    ).toEqual(expected);
    const refuse = () => refuseUnread(checkpoint, describeModel(checkpoint).description);
    if (expected.some((line) => line.endsWith("decoder"))) {
      expect(refuse).toThrow(/nothing reads in a model of type mixtral: .*Correct model_type/);
    } else expect(refuse).not.toThrow();
  });

  it("is no weight where its dtype is none of weights", async () => {
    const checkpoint = await openGolden("mixtral");
    addTensor(checkpoint, "model.layers.0.freqs_cis", [4], "C64");
    expect((await summariseCheckpoint(checkpoint)).unread).toMatchObject([{ tensors: 1, ofDecoder: false }]);
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
    ["model.layers.7.mlp.switch_mlp.down_proj.weight", 7, "expert", null],
    ["backbone.layers.7.mixer.gate.weight", 7, "router", null],
    ["backbone.layers.7.mixer.experts.3.up_proj.weight", 7, "expert", 3],
    ["decoder.block.7.layer.2.mlp.experts.expert_3.wi.weight", 7, "expert", 3],
  ])("%s", (name, layer, kind, expert) => {
    const { stack, ...role } = tensorRole(name);
    expect(role).toEqual({ layer, kind, expert });
    expect(name.startsWith(layer === null ? stack : `${stack}.${layer}.`)).toBe(true);
  });
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
