import { expect, it } from "vitest";
import type { ErrorCode } from "../../../src/protocol/errors";
import { addTensor, changeConfig, openGolden } from "./goldens";
import { describeModel } from "../../../src/engine/model/families/index";
import { requireExperts } from "../../../src/engine/model/requireExperts";
import { caught, errorOf } from "./refused";

/** Changes to the config of a family's golden checkpoint (undefined takes a key away), and what is said of them. */
const refusals: [family: string, changes: Record<string, unknown>, code: ErrorCode, says: string | RegExp][] = [
  [
    "qwen3_moe",
    { model_type: "gpt2", architectures: ["GPT2LMHeadModel"] },
    "model/unsupported-family",
    /model_type = "gpt2", expected one of afmoe, .*deepseek_v3, .*qwen3_vl_moe, solar_open, .*llama, .*qwen3\. /,
  ],
  ["qwen3_moe", { model_type: null }, "model/unsupported-family", "no model_type"],
  ["qwen3_moe", { model_type: 3 }, "checkpoint/malformed", "model_type = 3"],
  ["qwen3_moe", { hidden_act: "relu" }, "model/unsupported-option", 'hidden_act = "relu"'],
  ["qwen3_moe", { rope_scaling: { type: "su", factor: 2 } }, "model/unsupported-option", 'rope_type = "su"'],
  ["qwen3_moe", { partial_rotary_factor: 0.5 }, "model/unsupported-option", "partial_rotary_factor = 0.5"],
  ["qwen3_moe", { rope_scaling: { type: "linear" } }, "checkpoint/malformed", "no factor"],
  [
    "qwen3_moe",
    { rope_parameters: { full_attention: {} } },
    "model/unsupported-option",
    'rope_parameters = "full_attention"',
  ],
  ["qwen3_moe", { num_experts: 4 }, "checkpoint/malformed", "num_local_experts = 8, expected 4 as num_experts says"],
  ["qwen3_moe", { num_experts_per_tok: 9 }, "model/unsupported-option", "num_experts_per_tok = 9"],
  [
    "qwen3_moe",
    { layer_types: ["full_attention", "sliding_attention", "full_attention"] },
    "model/unsupported-option",
    'layer_types = "sliding_attention"',
  ],
  ["qwen3_moe", { layer_types: ["full_attention"] }, "checkpoint/malformed", "num_hidden_layers = 3"],
  [
    "qwen3_moe",
    { quantization_config: { quant_method: "bitsandbytes" } },
    "model/unsupported-option",
    'quantization_config.quant_method = "bitsandbytes"',
  ],
  [
    "qwen3_moe",
    { quantization_config: { quant_method: "fp8", activation_scheme: "static" } },
    "model/unsupported-option",
    'activation_scheme = "static"',
  ],
  ["qwen3_moe", { num_attention_heads: 3 }, "checkpoint/malformed", "num_key_value_heads = 2"],
  [
    "qwen2_moe",
    { layer_types: ["full_attention", "sliding_attention", "full_attention"] },
    "model/unsupported-option",
    "layer_types",
  ],
  [
    "qwen2_moe",
    { layer_types: Array(3).fill("linear_attention") },
    "model/unsupported-option",
    'layer_types = "linear_attention"',
  ],
  ["qwen2_moe", { mlp_only_layers: [0, 1, 2], num_hidden_layers: 0 }, "checkpoint/malformed", "num_hidden_layers = 0"],
  ["mixtral", { sliding_window: 0 }, "checkpoint/malformed", "sliding_window = 0"],
  ["olmoe", { head_dim: 16 }, "model/unsupported-option", "head_dim = 16"],
  ["olmoe", { sliding_window: 128 }, "model/unsupported-option", "sliding_window = 128"],
  ["deepseek_v2", { topk_method: "noaux_tc" }, "model/unsupported-option", 'topk_method = "noaux_tc"'],
  ["deepseek_v2", { moe_layer_freq: 2 }, "model/unsupported-option", "moe_layer_freq = 2"],
  ["deepseek_v2", { scoring_func: "sigmoid" }, "model/unsupported-option", 'scoring_func = "sigmoid"'],
  ["deepseek_v2", { topk_method: "group_limited_greedy", n_group: 3 }, "model/unsupported-option", "n_group = 3"],
  ["deepseek_v2", { num_experts_per_tok: undefined }, "checkpoint/malformed", "no num_experts_per_tok"],
  ["deepseek_v3", { n_group: 16 }, "model/unsupported-option", "n_group = 16"],
  ["deepseek_v3", { topk_group: 5 }, "model/unsupported-option", "topk_group = 5"],
  ["deepseek_v3", { topk_group: 1, num_experts_per_tok: 5 }, "model/unsupported-option", "topk_group = 1"],
  ["deepseek_v3", { num_key_value_heads: 2 }, "model/unsupported-option", "num_key_value_heads = 2"],
  ["deepseek_v3", { first_k_dense_replace: 3 }, "checkpoint/missing-tensor", "first_k_dense_replace = 3"],
  ["glm4_moe", { scoring_func: "softmax" }, "model/unsupported-option", "scoring_func"],
  ["gpt_oss", { swiglu_limit: 5 }, "model/unsupported-option", "swiglu_limit = 5"],
  ["gpt_oss", { sliding_window: null }, "model/unsupported-option", "sliding_window = null"],
  ["phimoe", { num_experts_per_tok: 4 }, "model/unsupported-option", "num_experts_per_tok = 4"],
  ["phimoe", { rope_scaling: { type: "linear", factor: 2 } }, "model/unsupported-option", 'rope_type = "linear"'],
  [
    "phimoe",
    { rope_scaling: { type: "longrope", short_factor: [1], long_factor: [1] } },
    "checkpoint/malformed",
    "short_factor",
  ],
  ["hunyuan_v1_moe", { use_cla: true }, "model/unsupported-option", "use_cla = true"],
  ["hunyuan_v1_moe", { num_shared_expert: [1, 2, 1] }, "model/unsupported-option", "num_shared_expert = 2"],
  ["hunyuan_v1_moe", { moe_topk: [2, 2] }, "checkpoint/malformed", "moe_topk = [2,2]"],
  ["minimax_m2", { scoring_func: "softmax" }, "model/unsupported-option", "scoring_func"],
  ["minimax_m2", { attn_type_list: [1, 0, 1] }, "model/unsupported-option", "attn_type_list = 0"],
  ["minimax_m2", { shared_intermediate_size: 64 }, "model/unsupported-option", "shared_intermediate_size = 64"],
];
it.each(refusals)("%s with %o: %s", async (family, changes, code, says) => {
  const checkpoint = await openGolden(family);
  changeConfig(checkpoint, changes);
  const error = errorOf(checkpoint);
  expect(error.code).toBe(code);
  if (typeof says === "string") expect(error.message).toContain(says);
  else expect(error.message).toMatch(says);
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
  changeConfig(checkpoint, changes);
  for (let layer = 0; layer < 3; layer++) {
    for (const projection of ["gate_proj", "up_proj", "down_proj"]) {
      const shape = projection === "down_proj" ? [32, 40] : [40, 32];
      addTensor(checkpoint, `model.layers.${layer}.mlp.${projection}.weight`, shape);
    }
  }
  const { description } = describeModel(checkpoint);
  expect(caught(() => requireExperts(description, "compress"))).toMatchObject({
    code: "model/not-moe",
    message: expect.stringContaining(`This ${family} checkpoint is a dense model: none of its 3 layers`) as unknown,
  });
});
