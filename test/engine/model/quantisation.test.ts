import { describe, expect, test } from "vitest";
import type { Scheme } from "../../../src/engine/model/quantisation/scheme";
import { readSchemes } from "../../../src/engine/model/quantisation/schemes";
import { Weights } from "../../../src/engine/model/weights";
import { packQuantized, gptqPacked } from "../../support/packedLayouts";
import { rawCheckpoint } from "../../support/rawCheckpoint";
import type { MemoryTensor } from "../../../src/engine/checkpoint/safetensorsFile";
import type { ModelDescription } from "../../../src/engine/model/description";
import { checkScales } from "../../../src/engine/model/quantisation/checkScales";
import { bytesOf, encodeFloats } from "../../../src/engine/tensor/floatCodec";
import { createRandom } from "../../../src/engine/tensor/random";

const weights = (bits: number, more: object = {}) => ({
  ...{ num_bits: bits, type: "int", symmetric: true, strategy: "group", group_size: 32 },
  ...more,
});
const compressed = (config_groups: object, more: object = {}) => ({
  ...{ quant_method: "compressed-tensors", format: "pack-quantized", config_groups },
  ...more,
});
const packed = (bits: 2 | 3 | 4 | 8, group: number | null = 32): Scheme => ({ kind: "packed", bits, group });
const expert = (e: number, projection: string) => `model.layers.1.mlp.experts.${e}.${projection}`;

interface Rule {
  name: string;
  config: Record<string, unknown>;
  schemes: [module: string, scheme: Scheme | null][];
}

const twoGroups = {
  group_0: { targets: ["Linear"], weights: weights(4) },
  group_1: { targets: ["re:.*self_attn.*", expert(3, "up_proj")], weights: weights(8, { strategy: "channel" }) },
};

const rules: Rule[] = [
  { name: "no quantization_config", config: {}, schemes: [["a", null]] },
  {
    name: "classes come after patterns, patterns after names, and what is ignored is plain",
    config: compressed(
      { ...twoGroups, group_2: { targets: ["re:.*up_proj$"], weights: weights(2) } },
      { ignore: ["lm_head", "re:.*mlp\\.gate$"] },
    ),
    schemes: [
      [expert(0, "gate_proj"), packed(4)],
      [expert(0, "up_proj"), packed(2)],
      [expert(3, "up_proj"), packed(8, null)],
      ["model.layers.0.self_attn.q_proj", packed(8, null)],
      ["model.layers.0.mlp.gate", null],
      // Matched from the start, not anywhere: this one is no router.
      ["model.layers.0.mlp.gate.more", packed(4)],
      ["lm_head", null],
    ],
  },
  {
    name: "patterns match from a name's start alone",
    config: compressed({ g: { targets: ["re:mlp"], weights: weights(4) } }),
    schemes: [
      [expert(0, "up_proj"), null],
      ["mlp.x", packed(4)],
    ],
  },
  {
    name: "the format of a group comes before that of all",
    config: compressed(
      {
        a: { targets: ["re:.*a$"], format: "mxfp4-pack-quantized", weights: weights(4) },
        b: {
          targets: ["re:.*b$"],
          format: "float-quantized",
          weights: weights(8, { type: "float", strategy: "block", block_structure: [128, 64] }),
          input_activations: { dynamic: true },
        },
      },
      { format: "mixed-precision" },
    ),
    schemes: [
      ["m.a", { kind: "mxfp4" }],
      ["m.b", { kind: "scaled", scale: "scale", block: [128, 64] }],
    ],
  },
  {
    name: "GPTQ leaves out and overrides by ordered patterns",
    config: {
      ...{ quant_method: "gptq", bits: 4, group_size: 128, desc_act: false },
      dynamic: { "-:.*gate$": {}, "+:.*layers\\.0\\..*": { bits: 8 }, ".*down_proj": { group_size: -1 } },
    },
    schemes: [
      ["model.layers.0.mlp.gate", null],
      ["model.layers.0.down_proj", { kind: "gptq", bits: 8, group: 128, zeroOffset: 1 }],
      ["model.layers.1.down_proj", { kind: "gptq", bits: 4, group: null, zeroOffset: 1 }],
    ],
  },
  {
    name: "GPTQ's second version stores zeros as they are",
    config: { quant_method: "gptq", bits: 3, group_size: 64, checkpoint_format: "gptq_v2" },
    schemes: [["a", { kind: "gptq", bits: 3, group: 64, zeroOffset: 0 }]],
  },
  {
    name: "AWQ",
    config: { quant_method: "awq", version: "GEMM", bits: 4, group_size: 64 },
    schemes: [["a", { kind: "awq", group: 64 }]],
  },
];

describe("which module is stored how", () => {
  test.each(rules)("$name", ({ config, schemes }) => {
    const of = readSchemes("quant_method" in config ? { quantization_config: config } : config);
    expect(schemes.map(([module]) => [module, of(module)])).toEqual(schemes);
  });
});

describe("what is not read is refused by name, with what to convert to", () => {
  const group = (more: object, top: object = {}) => compressed({ g: { targets: ["Linear"], ...more } }, top);
  const unsupported = "model/unsupported-option";
  test.each<[string, object, string]>([
    ['quant_method = "bitsandbytes"', { quant_method: "bitsandbytes" }, unsupported],
    ['quant_method = "modelopt"', { quant_method: "modelopt" }, unsupported],
    ["quant_method = null", {}, unsupported],
    ['format = "marlin-24"', group({ weights: weights(4) }, { format: "marlin-24" }), unsupported],
    ['format = "naive-quantized"', group({ weights: weights(4) }, { format: "naive-quantized" }), unsupported],
    [
      "sparsity_config.format",
      group({ weights: weights(4) }, { sparsity_config: { format: "sparse-24-bitmask" } }),
      unsupported,
    ],
    ['actorder = "group"', group({ weights: weights(4, { actorder: "group" }) }), unsupported],
    ["num_bits = 5", group({ weights: weights(5) }), unsupported],
    ['strategy = "tensor"', group({ weights: weights(4, { strategy: "tensor" }) }), unsupported],
    ["group_size = 0", group({ weights: weights(4, { group_size: 0 }) }), unsupported],
    ["dynamic = false", group({ weights: weights(8), input_activations: { dynamic: false } }), unsupported],
    ["config_groups", compressed({}), unsupported],
    ["desc_act = true", { quant_method: "gptq", bits: 4, group_size: 128, desc_act: true }, unsupported],
    ["bits = 6", { quant_method: "gptq", bits: 6, group_size: 128 }, unsupported],
    ["checkpoint_format", { quant_method: "gptq", bits: 4, checkpoint_format: "marlin" }, unsupported],
    ['version = "gemv"', { quant_method: "awq", version: "gemv", bits: 4, group_size: 128 }, unsupported],
    [
      "is no regular expression",
      compressed({ g: { targets: ["re:(("], weights: weights(4) } }),
      "checkpoint/malformed",
    ],
  ])("%s", (message, quantization_config, code) => {
    const read = () => readSchemes({ quantization_config });
    expect(read).toThrow(expect.objectContaining({ code }));
    expect(read).toThrow(message);
  });

  test("a pattern that never ends on a name", () => {
    const slow = compressed({ g: { targets: ["re:(a+)+$"], weights: weights(4) } });
    const of = readSchemes({ quantization_config: slow });
    expect(() => of(`${"a".repeat(60)}b`)).toThrow(expect.objectContaining({ code: "checkpoint/malformed" }));
  });
});

describe("tensors that do not fit their scheme", () => {
  const made = packQuantized(4, 32)(8, 64, createRandom(1));
  const read = (tensors: typeof made.tensors, quantization_config: object | null, inputs = 64) => {
    const named = Object.fromEntries(Object.entries(tensors).map(([ending, tensor]) => [`m.${ending}`, tensor]));
    const config = quantization_config === null ? {} : { quantization_config };
    const stored = new Weights(rawCheckpoint(0, named, config));
    return () => stored.linear("m", inputs, 8, { bias: false, because: "a test" });
  };
  const group = (size: number) => compressed({ g: { targets: ["Linear"], weights: weights(4, { group_size: size }) } });
  test.each<[string, () => unknown, string, string]>([
    ["words without a configuration", read(made.tensors, null), "model/unsupported-option", "says nothing of it"],
    [
      "words of a module that is ignored",
      read(made.tensors, { ...made.quantisation, ignore: ["re:m"] }),
      "model/unsupported-option",
      "says nothing of it",
    ],
    [
      "a group that does not divide the width",
      read(made.tensors, group(48)),
      "model/unsupported-option",
      "(16, 32, 64 do)",
    ],
    ["another group than the scales have", read(made.tensors, group(16)), "checkpoint/shape-mismatch", "[8, 4]"],
    [
      "an order of the inputs",
      read({ ...made.tensors, weight_g_idx: made.tensors["weight_shape"]! }, made.quantisation),
      "model/unsupported-option",
      "order of their own",
    ],
    [
      "outputs that fill no words",
      read(gptqPacked(4, 16, 1)(8, 64, createRandom(1)).tensors, { quant_method: "gptq", bits: 4, group_size: 60 }, 60),
      "model/unsupported-option",
      "whole words",
    ],
  ])("%s", (_, act, code, message) => {
    expect(act).toThrow(expect.objectContaining({ code }));
    expect(act).toThrow(message);
  });

  test("a packed matrix where plain numbers are looked for", () => {
    const stored = new Weights(rawCheckpoint(0, { "router.weight_packed": made.tensors["weight_packed"]! }, {}));
    expect(() => stored.view("router.weight", [8, 64], "a test")).toThrow(/stored packed, .* Keep it in BF16/);
  });
});

describe("scales that compute nonsense", () => {
  const check = async (tensors: Record<string, MemoryTensor>, quantization_config: object) => {
    const named = Object.fromEntries(Object.entries(tensors).map(([ending, tensor]) => [`m.${ending}`, tensor]));
    const checkpoint = rawCheckpoint(0, named, { quantization_config });
    const linear = new Weights(checkpoint).linear("m", 64, 8, { bias: false, because: "a test" });
    return checkScales({ checkpoint, description: { head: linear } as unknown as ModelDescription });
  };
  const made = packQuantized(4, 32)(8, 64, createRandom(1));
  const gptq = gptqPacked(4, 16, 1)(8, 64, createRandom(1));
  const broken = (value: number): MemoryTensor => {
    const values = new Float32Array(16).fill(0.5);
    values[9] = value;
    return { dtype: "BF16", shape: [8, 2], data: encodeFloats(values, "BF16") };
  };

  const scaled = (value: number) => ({ ...made.tensors, weight_scale: broken(value) });

  test("good ones pass", async () => {
    await check(scaled(0.5), made.quantisation);
    await check(gptq.tensors, gptq.quantisation);
  });
  test.each([0, NaN, -Infinity])("%d", async (value) => {
    await expect(check(scaled(value), made.quantisation)).rejects.toMatchObject({
      code: "checkpoint/not-finite",
      message: expect.stringContaining("at element 9") as string,
    });
  });
  test("an order of inputs that the configuration does not own up to", async () => {
    const order = Int32Array.from({ length: 64 }, (_, i) => (i === 17 ? 3 : Math.floor(i / 16)));
    const tensors = { ...gptq.tensors, g_idx: { dtype: "I32" as const, shape: [64], data: bytesOf(order) } };
    await expect(check(tensors, gptq.quantisation)).rejects.toMatchObject({
      code: "model/unsupported-option",
      message: expect.stringContaining("puts input 17 into group 3, expected 1") as string,
    });
  });
});
