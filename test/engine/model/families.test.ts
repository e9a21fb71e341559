import { describe, expect, it } from "vitest";
import type { Config } from "../../../src/engine/model/config";
import type { ModelDescription } from "../../../src/engine/model/description";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { isWeightView } from "../../../src/engine/model/parameters";
import { addTensor, openGolden, type EditableCheckpoint } from "./goldens";

const names = [...families.keys()];

/** Rewrites a config of transformers 5 as released checkpoints have it. */
function toReleasedStyle(config: { [key: string]: unknown }): void {
  const { rope_theta, ...scaling } = config["rope_parameters"] as { [key: string]: unknown };
  delete config["rope_parameters"];
  config["rope_theta"] = rope_theta;
  const { rope_type, partial_rotary_factor, ...rest } = scaling;
  if (partial_rotary_factor !== undefined) config["partial_rotary_factor"] = partial_rotary_factor;
  config["rope_scaling"] = rope_type === "default" ? null : { type: rope_type, ...rest };
  config["torch_dtype"] = config["dtype"];
  delete config["dtype"];
  delete config["layer_types"];
  if (config["model_type"] === "qwen3_moe") {
    config["num_experts"] = config["num_local_experts"];
    delete config["num_local_experts"];
  }
}

describe.each(names)("%s", (name) => {
  const describeGolden = async (edit: (checkpoint: EditableCheckpoint) => void = () => undefined) => {
    const checkpoint = await openGolden(name);
    edit(checkpoint);
    return describeModel(checkpoint).description;
  };

  it("uses every tensor of the golden checkpoint, each view inside its tensor", async () => {
    const checkpoint = await openGolden(name);
    const { family, description } = describeModel(checkpoint);
    expect([family.modelType, description.family, description.unusedTensors]).toEqual([name, name, []]);
    for (const view of viewsOf(description)) {
      const entry = checkpoint.tensors.get(view.tensor)!;
      const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
      expect(view.dtype).toBe(entry.dtype);
      expect(view.offset + size(view.shape)).toBeLessThanOrEqual(size(entry.shape));
    }
  });

  it("is the same from a config in released style", async () => {
    expect(await describeGolden(({ config }) => toReleasedStyle(config))).toEqual(await describeGolden());
  });

  it("names any tensor that is missing", async () => {
    const checkpoint = await openGolden(name);
    for (const [tensor, entry] of [...checkpoint.tensors]) {
      checkpoint.tensors.delete(tensor);
      const error = errorOf(checkpoint);
      expect([tensor, error.code]).toEqual([tensor, "checkpoint/missing-tensor"]);
      expect(error.message).toContain(JSON.stringify(tensor));
      checkpoint.tensors.set(tensor, entry);
    }
  });

  it("names any tensor of another shape", async () => {
    const checkpoint = await openGolden(name);
    for (const [tensor, entry] of [...checkpoint.tensors]) {
      checkpoint.tensors.set(tensor, {
        ...entry,
        shape: entry.shape.map((size, axis) => (axis === 0 ? size + 1 : size)),
      });
      const error = errorOf(checkpoint);
      expect([tensor, error.code]).toEqual([tensor, "checkpoint/shape-mismatch"]);
      expect(error.message).toContain(
        `${JSON.stringify(tensor)} in "model.safetensors" has shape [${entry.shape[0]! + 1}`,
      );
      checkpoint.tensors.set(tensor, entry);
    }
  });

  it("leaves tensors that the forward pass does not use untouched", async () => {
    const extra = ["model.layers.3.mlp.gate.weight", "mtp.0.proj.weight", "model.layers.3.eh_proj.weight"];
    const description = await describeGolden((checkpoint) =>
      extra.forEach((tensor) => addTensor(checkpoint, tensor, [4, 4])),
    );
    expect(description.unusedTensors).toEqual(extra);
  });

  it("reads tied embeddings from whichever tensor is there", async () => {
    const tied = (missing: string) =>
      describeGolden(({ config, tensors }) => {
        config["tie_word_embeddings"] = true;
        tensors.delete(missing);
      });
    const summary = ({ embedding, head }: ModelDescription) => [embedding.weight.tensor, head.weight.tensor, head.tied];
    expect(summary(await tied("lm_head.weight"))).toEqual([
      "model.embed_tokens.weight",
      "model.embed_tokens.weight",
      true,
    ]);
    expect(summary(await tied("model.embed_tokens.weight"))).toEqual(["lm_head.weight", "lm_head.weight", true]);
    // transformers does not tie tensors that are both stored and differ.
    expect(summary(await tied("none"))).toEqual(["model.embed_tokens.weight", "lm_head.weight", false]);
  });

  it("notices a checkpoint pruned behind its config's back at the router", async () => {
    const checkpoint = await openGolden(name);
    const moe = describeModel(checkpoint).description.layers.find(
      (layer) => layer.feedForward.kind === "moe",
    )!.feedForward;
    if (moe.kind !== "moe") throw new Error("not MoE");
    checkpoint.config = families.get(name)!.withNumExperts(checkpoint.config, moe.numExperts * 2);
    const error = errorOf(checkpoint);
    expect(error.code).toBe("checkpoint/shape-mismatch");
    expect(error.message).toContain(
      `has shape [${moe.numExperts}, 32], config.json implies [${moe.numExperts * 2}, 32]`,
    );
    expect(error.message).toMatch(/experts = (16|32)\)\. Is this checkpoint already pruned\?$/);
  });

  it("lists every tensor with one entry per expert", async () => {
    const checkpoint = await openGolden(name);
    const { family, description } = describeModel(checkpoint);
    for (const { index, feedForward } of description.layers) {
      if (feedForward.kind !== "moe") continue;
      const listed = family.perExpertTensors(index).filter((tensor) => checkpoint.tensors.has(tensor.name));
      const { bias, correctionBias } = feedForward.router;
      const expected = [bias, correctionBias].flatMap((view) => (view ? [view.tensor] : []));
      expect(listed.map((tensor) => tensor.name)).toEqual(expected);
      for (const { name: tensor, axis } of listed)
        expect(checkpoint.tensors.get(tensor)!.shape[axis]).toBe(feedForward.numExperts);
    }
  });

  it("does not survive hostile configs as anything but a typed error", async () => {
    const checkpoint = await openGolden(name);
    const original = checkpoint.config;
    const hostile = [-1, 0, 1.5, 1e300, 2 ** 53, 2 ** 26, "8", "", true, [], [1], {}, { a: 1 }, NaN, "\u202e\n", null];
    const start = performance.now();
    for (const key of [
      ...Object.keys(original),
      "rope_scaling",
      "rope_theta",
      "expert_id_mapping",
      "quantization_config",
    ]) {
      for (const value of hostile) {
        checkpoint.config = { ...original, [key]: value };
        const error = caught(() => describeModel(checkpoint));
        if (error !== null)
          expect([key, value, (error as { name: string }).name]).toEqual([key, value, "RerouteError"]);
      }
    }
    // A config that claims 2^26 layers ends at the first one that has no tensors.
    expect(performance.now() - start).toBeLessThan(20_000);
  });
});

function viewsOf(part: unknown): { tensor: string; offset: number; shape: readonly number[]; dtype: string }[] {
  if (typeof part !== "object" || part === null) return [];
  return isWeightView(part) ? [part] : Object.values(part).flatMap(viewsOf);
}

function caught(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return null;
}

function errorOf(checkpoint: EditableCheckpoint): { code: string; message: string } {
  const error = caught(() => describeModel(checkpoint));
  if (error === null) throw new Error("nothing was thrown");
  return error as { code: string; message: string };
}

describe("what a config can say", () => {
  type Edit = (checkpoint: EditableCheckpoint) => void;
  const set =
    (changes: Config): Edit =>
    ({ config }) =>
      void Object.assign(config, changes);

  const refusals: { family: string; edit: Edit; code: string; says: string }[] = [
    {
      family: "qwen3_moe",
      edit: set({ model_type: "llama" }),
      code: "model/unsupported-family",
      says: 'model_type = "llama", expected one of deepseek_v2, deepseek_v3, ernie4_5_moe, glm4_moe, gpt_oss, granitemoe, hunyuan_v1_moe, minimax_m2, mixtral, olmoe, phimoe, qwen2_moe, qwen3_moe',
    },
    { family: "qwen3_moe", edit: set({ model_type: null }), code: "model/unsupported-family", says: "no model_type" },
    { family: "qwen3_moe", edit: set({ model_type: 3 }), code: "checkpoint/malformed", says: "model_type = 3" },
    {
      family: "qwen3_moe",
      edit: set({ hidden_act: "relu" }),
      code: "model/unsupported-option",
      says: 'hidden_act = "relu"',
    },
    {
      family: "qwen3_moe",
      edit: set({ rope_scaling: { type: "su", factor: 2 } }),
      code: "model/unsupported-option",
      says: 'rope_type = "su"',
    },
    {
      family: "qwen3_moe",
      edit: set({ partial_rotary_factor: 0.5 }),
      code: "model/unsupported-option",
      says: "partial_rotary_factor = 0.5",
    },
    {
      family: "qwen3_moe",
      edit: set({ rope_scaling: { type: "linear" } }),
      code: "checkpoint/malformed",
      says: "no factor",
    },
    {
      family: "qwen3_moe",
      edit: set({ rope_parameters: { full_attention: {} } }),
      code: "model/unsupported-option",
      says: 'rope_parameters = "full_attention"',
    },
    {
      family: "qwen3_moe",
      edit: set({ num_experts: 4 }),
      code: "checkpoint/malformed",
      says: "num_local_experts = 8, expected 4 as num_experts says",
    },
    {
      family: "qwen3_moe",
      edit: set({ num_experts_per_tok: 9 }),
      code: "model/unsupported-option",
      says: "num_experts_per_tok = 9",
    },
    {
      family: "qwen3_moe",
      edit: set({ layer_types: ["full_attention", "sliding_attention", "full_attention"] }),
      code: "model/unsupported-option",
      says: 'layer_types = "sliding_attention"',
    },
    {
      family: "qwen3_moe",
      edit: set({ layer_types: ["full_attention"] }),
      code: "checkpoint/malformed",
      says: "num_hidden_layers = 3",
    },
    {
      family: "qwen3_moe",
      edit: set({ quantization_config: { quant_method: "gptq" } }),
      code: "model/unsupported-option",
      says: 'quantization_config.quant_method = "gptq"',
    },
    {
      family: "qwen3_moe",
      edit: set({ quantization_config: { quant_method: "fp8", activation_scheme: "static" } }),
      code: "model/unsupported-option",
      says: 'activation_scheme = "static"',
    },
    {
      family: "qwen3_moe",
      edit: set({ num_attention_heads: 3 }),
      code: "checkpoint/malformed",
      says: "num_key_value_heads = 2",
    },
    {
      family: "qwen2_moe",
      edit: set({ layer_types: ["full_attention", "sliding_attention", "full_attention"] }),
      code: "model/unsupported-option",
      says: "layer_types",
    },
    {
      family: "qwen2_moe",
      edit: set({ layer_types: Array(3).fill("linear_attention") }),
      code: "model/unsupported-option",
      says: 'layer_types = "linear_attention"',
    },
    {
      family: "qwen2_moe",
      edit: set({ mlp_only_layers: [0, 1, 2], num_hidden_layers: 0 }),
      code: "checkpoint/malformed",
      says: "num_hidden_layers = 0",
    },
    { family: "mixtral", edit: set({ sliding_window: 0 }), code: "checkpoint/malformed", says: "sliding_window = 0" },
    { family: "olmoe", edit: set({ head_dim: 16 }), code: "model/unsupported-option", says: "head_dim = 16" },
    {
      family: "olmoe",
      edit: set({ sliding_window: 128 }),
      code: "model/unsupported-option",
      says: "sliding_window = 128",
    },
    {
      family: "deepseek_v2",
      edit: set({ topk_method: "noaux_tc" }),
      code: "model/unsupported-option",
      says: 'topk_method = "noaux_tc"',
    },
    {
      family: "deepseek_v2",
      edit: set({ moe_layer_freq: 2 }),
      code: "model/unsupported-option",
      says: "moe_layer_freq = 2",
    },
    {
      family: "deepseek_v2",
      edit: set({ scoring_func: "sigmoid" }),
      code: "model/unsupported-option",
      says: 'scoring_func = "sigmoid"',
    },
    {
      family: "deepseek_v2",
      edit: set({ topk_method: "group_limited_greedy", n_group: 3 }),
      code: "model/unsupported-option",
      says: "n_group = 3",
    },
    {
      family: "deepseek_v2",
      edit: ({ config }) => delete config["num_experts_per_tok"],
      code: "checkpoint/malformed",
      says: "no num_experts_per_tok",
    },
    { family: "deepseek_v3", edit: set({ n_group: 16 }), code: "model/unsupported-option", says: "n_group = 16" },
    { family: "deepseek_v3", edit: set({ topk_group: 5 }), code: "model/unsupported-option", says: "topk_group = 5" },
    {
      family: "deepseek_v3",
      edit: set({ topk_group: 1, num_experts_per_tok: 5 }),
      code: "model/unsupported-option",
      says: "topk_group = 1",
    },
    {
      family: "deepseek_v3",
      edit: set({ num_key_value_heads: 2 }),
      code: "model/unsupported-option",
      says: "num_key_value_heads = 2",
    },
    {
      family: "deepseek_v3",
      edit: set({ first_k_dense_replace: 3 }),
      code: "checkpoint/missing-tensor",
      says: "first_k_dense_replace = 3",
    },
    {
      family: "glm4_moe",
      edit: set({ scoring_func: "softmax" }),
      code: "model/unsupported-option",
      says: "scoring_func",
    },
    { family: "gpt_oss", edit: set({ swiglu_limit: 5 }), code: "model/unsupported-option", says: "swiglu_limit = 5" },
    {
      family: "gpt_oss",
      edit: set({ sliding_window: null }),
      code: "model/unsupported-option",
      says: "sliding_window = null",
    },
    {
      family: "phimoe",
      edit: set({ num_experts_per_tok: 4 }),
      code: "model/unsupported-option",
      says: "num_experts_per_tok = 4",
    },
    {
      family: "phimoe",
      edit: set({ rope_scaling: { type: "linear", factor: 2 } }),
      code: "model/unsupported-option",
      says: 'rope_type = "linear"',
    },
    {
      family: "phimoe",
      edit: set({ rope_scaling: { type: "longrope", short_factor: [1], long_factor: [1] } }),
      code: "checkpoint/malformed",
      says: "short_factor",
    },
    {
      family: "hunyuan_v1_moe",
      edit: set({ use_cla: true }),
      code: "model/unsupported-option",
      says: "use_cla = true",
    },
    {
      family: "hunyuan_v1_moe",
      edit: set({ num_shared_expert: [1, 2, 1] }),
      code: "model/unsupported-option",
      says: "num_shared_expert = 2",
    },
    {
      family: "hunyuan_v1_moe",
      edit: set({ moe_topk: [2, 2] }),
      code: "checkpoint/malformed",
      says: "moe_topk = [2,2]",
    },
    {
      family: "minimax_m2",
      edit: set({ scoring_func: "softmax" }),
      code: "model/unsupported-option",
      says: "scoring_func",
    },
    {
      family: "minimax_m2",
      edit: set({ attn_type_list: [1, 0, 1] }),
      code: "model/unsupported-option",
      says: "attn_type_list = 0",
    },
    {
      family: "minimax_m2",
      edit: set({ shared_intermediate_size: 64 }),
      code: "model/unsupported-option",
      says: "shared_intermediate_size = 64",
    },
  ];
  it.each(refusals)("$family: $says", async ({ family, edit, code, says }) => {
    const checkpoint = await openGolden(family);
    edit(checkpoint);
    const error = errorOf(checkpoint);
    expect(error.code).toBe(code);
    expect(error.message).toContain(says);
    expect(error.message).not.toMatch(/[.\n\u202e]$/);
  });

  it.each([
    { family: "qwen3_moe", changes: { mlp_only_layers: [0, 1, 2] } },
    { family: "qwen2_moe", changes: { decoder_sparse_step: 4 } },
    { family: "qwen3_moe", changes: { num_local_experts: 0, num_experts_per_tok: 0 } },
    { family: "deepseek_v3", changes: { first_k_dense_replace: 3 } },
    { family: "ernie4_5_moe", changes: { moe_layer_start_index: 9 } },
  ])("$family with $changes is not MoE", async ({ family, changes }) => {
    const checkpoint = await openGolden(family);
    Object.assign(checkpoint.config, changes);
    for (let layer = 0; layer < 3; layer++) {
      for (const projection of ["gate_proj", "up_proj", "down_proj"]) {
        const shape = projection === "down_proj" ? [32, 40] : [40, 32];
        addTensor(checkpoint, `model.layers.${layer}.mlp.${projection}.weight`, shape);
      }
    }
    expect(errorOf(checkpoint).code).toBe("model/not-moe");
  });
});
